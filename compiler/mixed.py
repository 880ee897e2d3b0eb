"""Which values and weights a target with `half` had better keep in float32, so that answers stay close enough.

The model runs in ONNX Runtime with a switch at each of them: whole, or rounded to float16. Where all of them rounded
answer closely enough, that is all. Else each is rounded alone, and those whose rounding costs most a byte stay whole,
as few as will do. Inputs are the ones of the artifact's self-check: nothing has to be given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.codegen.cache import cached
from compiler.golden import make_inputs, session
from compiler.golden_changed import float_constants
from targets.gpu import Gpu, stem_in

if TYPE_CHECKING:
    from compiler.pipeline import Compiled

ENOUGH = 1e-2  # of an output's range: what is promised of models stored so
FLAG = "edgert.round."


def mixed(model: Path, target: Gpu, made: Callable[[Gpu], Compiled]) -> tuple[Gpu, Compiled]:
    """What `made` compiles of the ONNX file `model` for `target`, with what had better stay float32 left so.

    The manifest then has `halves`, and the target which was compiled for knows the names.
    """
    done = made(target)
    found: dict[str, Any] = {}
    with suppress(Exception):  # ONNX Runtime raises many kinds, and a model may be larger than a message holds
        key = [hashlib.sha256(model.read_bytes()).hexdigest(), ENOUGH, target.half, done.manifest["plan"]]
        text = json.dumps([*key, done.manifest["inputs"], done.manifest["dims"]])
        found = json.loads(cached("mixed", text, lambda: json.dumps(_choose(model, done.manifest, target)).encode()))
    if not found:
        done.notes.append(
            "ONNX Runtime cannot tell what storing in half precision costs: everything large is stored so"
        )
        return target, done
    if found["float32"]:
        target = replace(target, whole=frozenset(found["float32"]))
        done = made(target)
    done.manifest["halves"] = found
    return target, done


@dataclass(frozen=True)
class _Site:
    """A value or a weight that may be rounded, and how much smaller it is then."""

    name: str
    saved: int


def _choose(model: Path, manifest: Mapping[str, Any], target: Gpu) -> dict[str, Any]:
    """The manifest's `halves` (docs/artifact.md). Raises what ONNX Runtime raises."""
    import onnx

    loaded = onnx.load(model)
    values, unnamed = _values(loaded, manifest, target)
    sites = [*_weights(loaded, target), *values]
    probe = _Probe(loaded, manifest, [site.name for site in sites])
    worst = probe.error([site.name for site in sites])
    kept: list[_Site] = []
    error = worst
    if worst > ENOUGH:
        kept, error = _needed(sites, probe)
        kept += unnamed  # nothing tells what these cost
    sites += unnamed
    return {
        "float32": sorted(site.name for site in kept), "values": len(sites), "error": error, "error_all": worst,
        "bytes": sum(2 * site.saved for site in sites), "kept_bytes": sum(2 * site.saved for site in kept),
    }  # fmt: skip


def _needed(sites: Sequence[_Site], probe: _Probe) -> tuple[list[_Site], float]:
    """The first sites, by what rounding them costs a byte, that are enough when whole; and the error left."""
    order = sorted(sites, key=lambda s: probe.error([s.name], True) ** 2 / s.saved, reverse=True)
    errors: dict[int, float] = {len(order): 0.0}

    def enough(count: int) -> bool:
        if count not in errors:
            errors[count] = probe.error([site.name for site in order[count:]])
        return errors[count] <= ENOUGH

    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return order[:high], errors[high]


def _weights(model: Any, target: Gpu) -> list[_Site]:
    found = [(name, int(np.prod(tensor.dims))) for name, tensor in float_constants(model)]
    return [_Site(name, 2 * count) for name, count in found if target.halves(count)]


def _values(model: Any, manifest: Mapping[str, Any], target: Gpu) -> tuple[list[_Site], list[_Site]]:
    """What lies in the arena as halves: by the file's names, and what the file has not."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    floats = {
        v.name
        for v in (*inferred.value_info, *inferred.input)
        if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    sizes: dict[str, int] = {}
    unnamed = []
    for place in manifest["plan"]:
        name = stem_in(place["name"], floats)
        if not target.halves(place["size"] // 2):
            continue
        if name is None:
            unnamed.append(_Site(place["name"], place["size"]))
        else:
            sizes[name] = sizes.get(name, 0) + place["size"]
    return [_Site(name, size) for name, size in sizes.items()], unnamed


class _Probe:
    """The model with a switch at each of `names`."""

    def __init__(self, model: Any, manifest: Mapping[str, Any], names: Sequence[str]) -> None:
        self.names = names
        self.outputs = [o["name"] for o in manifest["outputs"] if "float" in o["dtype"]]
        self.session = session(_switched(model, names).SerializeToString())
        wanted = {i.name for i in self.session.get_inputs()}
        pictures = (False, True) if any(len(i["shape"]) >= 3 for i in manifest["inputs"]) else (False,)
        self.feeds = [
            {k: v for k, v in make_inputs(manifest, drawn).items() if k in wanted} for drawn in pictures
        ]  # fmt: skip
        self.answers = [self.run(feeds, []) for feeds in self.feeds]
        everything = [self._errors(names, [i]) for i in range(len(self.feeds))]
        self.hardest = everything.index(max(everything))

    def run(self, feeds: Mapping[str, np.ndarray], rounded: Iterable[str]) -> list[np.ndarray]:
        """The answers with those values rounded."""
        chosen = set(rounded)
        flags = {FLAG + name: np.array(name in chosen) for name in self.names}
        return self.session.run(self.outputs, {**feeds, **flags})

    def error(self, rounded: Sequence[str], quick: bool = False) -> float:
        """The largest difference that it makes, as a share of an output's range; quick: of the hardest inputs only."""
        return self._errors(rounded, [self.hardest] if quick else range(len(self.feeds)))

    def _errors(self, rounded: Sequence[str], which: Sequence[int]) -> float:
        worst = 0.0
        runs = [(self.run(self.feeds[i], rounded), self.answers[i]) for i in which]
        for at in range(len(self.outputs)):
            span = max(float(np.ptp(answers[at])) for answers in self.answers)
            far = max(float(np.abs(a[at] - b[at]).max()) for a, b in runs)
            worst = max(worst, far / (span or 1.0))
        return worst


def _switched(model: Any, names: Sequence[str]) -> Any:
    """A copy in which each of the values is rounded to float16 where an input says so."""
    import onnx
    from onnx import TensorProto, helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph, wanted, nodes = made.graph, set(names), []

    def switch(name: str) -> None:
        graph.input.append(helper.make_tensor_value_info(FLAG + name, TensorProto.BOOL, []))
        most = graph.initializer.add()
        half, single, held = (f"{name}.{word}" for word in ("as_half", "as_single", "rounded"))
        most.CopyFrom(helper.make_tensor(f"{held}.most", TensorProto.FLOAT, [], [65504.0]))
        least = graph.initializer.add()
        least.CopyFrom(helper.make_tensor(f"{held}.least", TensorProto.FLOAT, [], [-65504.0]))
        nodes.extend([
            helper.make_node("Clip", [name, f"{held}.least", f"{held}.most"], [f"{held}.clipped"]),
            helper.make_node("Cast", [f"{held}.clipped"], [half], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [half], [single], to=TensorProto.FLOAT),
            helper.make_node("Where", [FLAG + name, single, name], [held]),
        ])  # fmt: skip

    outputs = {output.name for output in graph.output}
    wanted -= outputs
    for name in [*(i.name for i in graph.input), *(t.name for t in graph.initializer)]:
        if name in wanted:
            switch(name)
    for node in list(graph.node):
        for i, name in enumerate(node.input):
            if name in wanted:
                node.input[i] = f"{name}.rounded"
        nodes.append(node)
        for name in node.output:
            if name in wanted:
                switch(name)
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copied)
    for name in sorted(set(names) & outputs):  # a switch without effect: outputs are not stored so
        graph.input.append(helper.make_tensor_value_info(FLAG + name, TensorProto.BOOL, []))
    return made
