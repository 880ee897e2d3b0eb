"""The scheme `auto`: the cheapest scheme everywhere, and better ones for the layers that need them.

Every scheme of a ladder rewrites the model once. All layers start on the cheapest; the harm that each does alone ranks
them; then binary search finds how few of the worst have to go up a rung for the bound to hold. Where even all of them
would not do, it finds how few have to be float32, and how many of those do as well on a rung between. Mixes are
spliced together (`quant.splice`), so nothing is calibrated twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quant import harm
from quant.bias_correction import correct
from quant.contract import Layer, Options, Progress, Rewritten
from quant.evaluate import Bound, Judge, Quality
from quant.quantize import resolve, scheme_named
from quant.splice import FLOAT, Splice
from targets.errors import EdgertError, UsageError

if TYPE_CHECKING:
    import onnx

    from quant.data import Samples
    from quant.schemes import Scheme

# Cheapest first, float32 after the last. 16-bit activations cost more than 8-bit ones but keep a convolution's
# arithmetic in integers; where products make up the model, ranges found as it runs do better.
CONVOLUTIONS = ("int8", "int16x8")
PRODUCTS = ("int8", "int8-dynamic")
DEFAULT_BOUND = Bound(max_drop=0.01)


@dataclass
class Search:
    """What is known while searching: the ladder's mixes and how often one was measured."""

    splice: Splice
    ladder: Sequence[str]
    judge: Judge
    bound: Bound
    progress: Progress | None
    measured: int = 0
    best: Quality | None = None

    def mix(self, choice: Mapping[str, str]) -> onnx.ModelProto:
        """The model with each named tensor's section as chosen, moves going along."""
        return self.splice.mix(harm.with_moves(self.splice, choice, self.ladder))

    def quality(self, choice: Mapping[str, str]) -> Quality:
        """The quality of one mix on all samples."""
        self.measured += 1
        what = f"mix {self.measured}"
        tell = (lambda done: self.progress(what, done, None)) if self.progress else None  # type: ignore[misc]
        return self.judge.quality(self.mix(choice), each=tell)

    def holds(self, choice: Mapping[str, str]) -> bool:
        """Whether the bound holds for a mix; remembers the best that is not float32 throughout."""
        quality = self.quality(choice)
        quantized = any(version != FLOAT for version in choice.values())
        if quantized and (self.best is None or (quality.after, quality.sqnr_db) > (self.best.after, self.best.sqnr_db)):
            self.best = quality
        return self.bound.holds(quality)


def rewrite(
    model: onnx.ModelProto, scheme: Scheme, samples: Samples | None, options: Options, progress: Progress | None
) -> Rewritten:
    """The mix of schemes that is cheapest and within the bound of `options.auto`.

    Its entries: `max_drop` (absolute, 0.005 is half a point) and `min_sqnr` (dB), at most 0.01 dropped where neither
    is given; `labels` and the `samples` they are for (default: the calibration samples); `ladder`, names of schemes,
    cheapest first. Raises EdgertError where the bound holds only with everything in float32, telling the best reached.
    """
    if samples is None:
        raise UsageError("the scheme auto needs calibration data: give an .npz file or a folder of samples")
    settings = options.auto
    bound = Bound(settings.get("max_drop"), settings.get("min_sqnr"))  # type: ignore[arg-type]
    if bound == Bound():
        bound = DEFAULT_BOUND
    ladder: Sequence[str] = settings.get("ladder") or default_ladder(model)  # type: ignore[assignment]
    done = {name: _rewritten(model, name, samples, options, progress) for name in ladder}
    splice = Splice(model, {name: result.model for name, result in done.items()})
    judge = Judge(model, settings.get("samples", samples), settings.get("labels"))  # type: ignore[arg-type]
    search = Search(splice, ladder, judge, bound, progress)
    parts = harm.parts(splice, ladder[0], done[ladder[0]].layers)
    choice, alone = _search(search, parts, ladder, progress)
    layers = _told(done, ladder, parts, choice, alone)
    return Rewritten(search.mix(choice), layers)


def default_ladder(model: onnx.ModelProto) -> tuple[str, ...]:
    """The ladder for a model: by whether convolutions or products are more among its nodes."""
    ops = [node.op_type for node in model.graph.node]
    return CONVOLUTIONS if ops.count("Conv") > ops.count("MatMul") + ops.count("Gemm") else PRODUCTS


def fewest(most: int, holds: Callable[[int], bool], known: bool = False) -> int | None:
    """The least count from 0 to `most` that holds, where more hold whenever fewer do; None where `most` does not.

    known: `most` is known to hold. Whatever is returned was asked, or is known.
    """
    if holds(0):
        return 0
    if not known and (not most or not holds(most)):
        return None
    low, high = 0, most  # low does not hold, high does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _search(
    search: Search, parts: Sequence[harm.Part], ladder: Sequence[str], progress: Progress | None
) -> tuple[dict[str, str], dict[str, float]]:
    """The version for each tensor, and the harm that each part does alone on the first rung (empty: not needed)."""
    everywhere = {part.tensor: ladder[0] for part in parts}
    if search.holds(everywhere):
        return everywhere, {}
    alone = harm.alone(search.splice, ladder[0], parts, search.judge, progress)
    order = harm.ranked(parts, alone)

    def raised(count: int, version: str, base: Mapping[str, str]) -> dict[str, str]:
        return {**base, **{part.tensor: version for part in order[:count]}}

    # One rung up, if that is enough for the bound: zero of them has been measured.
    for version in ladder[1:]:
        count = fewest(len(order), lambda n, to=version: n > 0 and search.holds(raised(n, to, everywhere)))  # type: ignore[misc]
        if count is not None:
            return raised(count, version, everywhere), alone
    # Else the worst in float32; with all of them nothing would be quantized.
    count = fewest(len(order) - 1, lambda n: n > 0 and search.holds(raised(n, FLOAT, everywhere)))
    if count is None:
        raise EdgertError(_missed(search))
    choice = raised(count, FLOAT, everywhere)
    for version in reversed(ladder[1:]):
        # Those raised come down to this rung, the worst last, as many as the bound allows.
        high, low = choice, raised(count, version, everywhere)
        top = fewest(count, lambda n: search.holds(_top(order, n, high, low)), known=True)  # noqa: B023
        assert top is not None
        choice = _top(order, top, high, low)
    return choice, alone


def _top(order: Sequence[harm.Part], count: int, high: Mapping[str, str], low: Mapping[str, str]) -> dict[str, str]:
    """`low`, but the first `count` of `order` as in `high`."""
    return {**low, **{part.tensor: high[part.tensor] for part in order[:count]}}


def _missed(search: Search) -> str:
    best = search.best
    assert best is not None
    reached = f"the best with any layer quantized: {best.metric} {best.before:.4f} -> {best.after:.4f}"
    why = search.bound.miss(best)
    return f"auto cannot meet the bound: {why}; {reached}, SQNR {best.sqnr_db:.1f} dB. Allow a larger drop"


def _rewritten(
    model: onnx.ModelProto, name: str, samples: Samples, options: Options, progress: Progress | None
) -> Rewritten:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    scheme = scheme_named(name)
    result: Rewritten = resolve(scheme.rewrite)(copy, scheme, samples, replace(options, auto={}), progress)
    if options.bias_correction is None and scheme.activations is not None and scheme.activations.static:
        # As the front door does by default; where it is asked for, the front door corrects the finished mix.
        result.model = correct(model, result.model, samples, options)
    return result


def _told(
    done: Mapping[str, Rewritten],
    ladder: Sequence[str],
    parts: Sequence[harm.Part],
    choice: Mapping[str, str],
    alone: Mapping[str, float],
) -> list[Layer]:
    """Each layer with the scheme it got, and why where it is not the first of the ladder."""
    version_of = {node.name: choice[part.tensor] for part in parts for node in part.section.made_of[FLOAT]}
    harms = {node.name: alone.get(part.tensor) for part in parts for node in part.section.made_of[FLOAT]}
    schemes = {name: {layer.node: layer for layer in result.layers} for name, result in done.items()}
    layers = []
    for layer in done[ladder[0]].layers:
        version = version_of.get(layer.node, ladder[0])
        found = layer if version == FLOAT else schemes[version].get(layer.node, layer)
        if version == ladder[0]:
            layers.append(layer)
            continue
        db = harms.get(layer.node)
        reason = f"in {ladder[0]} it alone leaves {db:.1f} dB at the output" if db is not None else "raised"
        got = None if version == FLOAT else found.scheme
        layers.append(Layer(layer.node, layer.op, got, reason))
    return layers
