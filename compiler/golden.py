"""Inputs and right answers that travel with an artifact, so that any device can check itself."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compiler.golden_changed import nudged, with_half_weights

TOLERANCE = 1e-4  # of the output's range: float32 sums of some thousand terms in another order
HALVES = 1e-2  # where values and weights are rounded to 11 bits: some fifty times 5e-4, seldom all one way
# times what rounding operands costs is what 64 additions in float16 do: the root of 64 / 2, over that of 2
HALF_SUMS = 4
ABSOLUTE = 1e-6  # what sigmoid, tanh and the like may be off by themselves: some units in the last place of 1.0
STEPS = 5 / 255  # of the range: where floats are rounded to bytes a tie may fall the other way, and the step spreads
NUDGED = 3  # times a model that rounds is run with its constants nudged
TIES = 3  # of MiniLM in int4x8 ten such runs are off by 0.007 to 0.03 of the range at most, so a few are no bound
LOOSEST = 0.25  # a check beyond that finds no fault
ROUNDS = ("QuantizeLinear", "QLinear", "DynamicQuantize")  # how such operators' names begin
SEED = 20250101
LINE = 48  # pixels from one line of writing to the next


def make_inputs(manifest: Mapping[str, Any], drawn: bool = False) -> dict[str, np.ndarray]:
    """Seeded inputs that fit the manifest: floats in [0, 1), integers 0 and 1 (valid as masks, flags and indices).

    A symbolic dimension takes 64, or the nearest its bounds allow. drawn: floats as pictures of lines of
    writing, -2 on 2, instead of noise.
    """
    rng = np.random.default_rng(SEED)
    sizes = [min(max(64, d["min"]), d["max"]) for d in manifest["dims"]]
    feeds = {}
    for port in manifest["inputs"]:
        shape = tuple(d if isinstance(d, int) else sizes[d["slot"]] for d in port["shape"])
        if "float" in port["dtype"]:
            value = _floats(rng, shape, drawn)
            if port["dtype"] not in ("float16", "float32", "float64"):
                import ml_dtypes

                value = value.astype(getattr(ml_dtypes, port["dtype"]))
            value = value.astype(port["dtype"]) if port["dtype"] in ("float16", "float32", "float64") else value
        elif "scale" in port:
            info = np.iinfo(port["dtype"])
            value = rng.integers(info.min, info.max, shape, port["dtype"], endpoint=True)
        elif port["dtype"] == "bool":
            value = rng.random(shape) < 0.5
        else:
            value = np.asarray(rng.integers(0, 2, shape)).astype(port["dtype"])
            value[..., :1] = 1  # a mask of nothing but zeros has no answer
        feeds[port["name"]] = value
    return feeds


def _floats(rng: np.random.Generator, shape: tuple[int, ...], drawn: bool) -> np.ndarray:
    if not drawn or len(shape) < 3 or shape[-2] < LINE:
        return rng.random(shape)
    rows, cols = shape[-2:]
    strokes = (rng.random((-(-rows // 5), -(-cols // 3))) < 0.5).repeat(5, 0).repeat(3, 1)[:rows, :cols]
    written = strokes & (np.arange(rows)[:, None] % LINE < LINE * 2 // 5)
    return np.broadcast_to(np.where(written, -2.0, 2.0), shape).copy()


def make(
    model: Path, manifest: Mapping[str, Any], notes: list[str], half: int = 0, half_sums: bool = False,
    whole: Container[str] = (),
) -> tuple[dict, dict, float]:  # fmt: skip
    """Golden inputs, ONNX Runtime's outputs for them, and the tolerance as a share of an output's range.

    Nothing, with a note, where ONNX Runtime cannot run the model. Of two kinds of inputs, those are taken whose answers
    can be compared more closely: a detector that finds nothing in noise answers with numbers too small for it. Where
    floats are rounded to bytes on the way, a tie that falls the other way may move an answer a good deal: how far is
    measured, as the difference between ONNX Runtime with and without its integer kernels, and with constants off by
    some units in the last place, and TIES times the largest allowed. half: so many elements and more are stored as
    float16; what ONNX Runtime makes of weights rounded so is allowed twice, and HALF_SUMS times that where half_sums:
    products are added in float16. whole: names of what stays float32.
    """
    import onnxruntime as ort

    rounds = _rounds(model)
    names = [o["name"] for o in manifest["outputs"]]
    found: list[tuple[float, float, dict, dict]] = []
    try:
        sessions = [session(model)]
        if rounds:
            sessions.insert(0, session(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL))
            sessions += [session(changed) for changed in nudged(model, NUDGED)]
        if half:
            sessions.append(session(with_half_weights(model, half, whole)))
        wanted = {i.name for i in sessions[0].get_inputs()}
        pictures = any(len(a.shape) >= 3 and a.shape[-2] >= LINE for a in make_inputs(manifest).values())
        for drawn in (False, True)[: 1 + pictures]:
            feeds = make_inputs(manifest, drawn)
            given = {k: v for k, v in feeds.items() if k in wanted}
            runs = [dict(zip(names, one.run(names, given), strict=True)) for one in sessions]
            floats = [name for name in names if runs[0][name].dtype.kind == "f" and runs[0][name].size]
            span = min((_span(runs[0][name]) for name in floats), default=1.0)
            noise = [max((_distance(runs[0][name], run[name]) for name in floats), default=0.0) for run in runs[1:]]
            allowed = [TOLERANCE, ABSOLUTE / span if span > 0 else 0.0]
            if rounds:
                allowed += [STEPS, min(TIES * max(noise[: 1 + NUDGED]), LOOSEST)]
            if half:
                allowed += [HALVES, min(2 * noise[-1] * (HALF_SUMS if half_sums else 1), LOOSEST)]
            found.append((min(max(allowed), 1.0), -span, feeds, runs[0]))
    except Exception as error:  # ONNX Runtime raises many kinds
        notes.append(f"no golden answers: ONNX Runtime does not run this model ({str(error).splitlines()[0][:160]})")
        return {}, {}, TOLERANCE
    tolerance, span, feeds, answers = min(found, key=lambda case: case[:2])
    if span and ABSOLUTE / -span > TOLERANCE:
        notes.append(f"golden answers are small (range {-span:.1e}), compared within {ABSOLUTE:g}")
    return feeds, answers, tolerance


def session(model: Path | bytes, level: Any = None) -> Any:
    """The ONNX file, or its bytes, in ONNX Runtime; level: of its optimizations, the basic ones unless given."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC if level is None else level
    given = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference as a share of the range."""
    return float(np.nanmax(np.abs(a.astype(np.float64) - b))) / (_span(a) or 1.0)


def _rounds(model: Path) -> bool:
    """Whether the model rounds floats to integers of few bits as it runs."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    return any(node.op_type.startswith(ROUNDS) for node in graph.node)


def _span(a: np.ndarray) -> float:
    values = a[np.isfinite(a)].astype(np.float64)
    return float(np.ptp(values) or np.abs(values).max()) if values.size else 1.0
