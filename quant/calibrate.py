"""Ranges of a float32 model's values over calibration samples, a sample and a bounded set of values at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from quant.affine import Range
from quant.contract import Options, Progress
from quant.data import Sample
from quant.graph import Graph
from quant.model import open_session
from quant.observers import OBSERVERS
from targets.errors import UsageError

# Values asked for at once hold at most so many bytes, as far as shapes tell; more samples are walked more often.
BUDGET = 512 << 20
AUTO = "auto"
UNKNOWN = 1 << 20  # elements assumed where the shape is not known


def calibrate(
    model: onnx.ModelProto,
    samples: Iterable[Sample],
    tensors: Sequence[str],
    options: Options,
    levels: int = 256,
    symmetric: bool = False,
    progress: Progress | None = None,
    suited: Mapping[str, str] | None = None,
) -> dict[str, Range]:
    """The range of each of `tensors` (float32 values of the model), as the options' observer sees it.

    The observer `auto` is the one that `suited` names for a tensor, otherwise minmax.
    Raises UsageError for an observer unknown, a percentile out of range, samples that the model cannot run.
    """
    names = dict.fromkeys(tensors, options.observer)
    if options.observer == AUTO:
        names = {name: (suited or {}).get(name, "minmax") for name in tensors}
    elif options.observer not in OBSERVERS:
        raise UsageError(f"no observer is called {options.observer!r}; there are {AUTO}, {', '.join(OBSERVERS)}")
    if not 50 < options.percentile <= 100:
        raise UsageError(f"the percentile is {options.percentile}; give one above 50 and at most 100")
    observers = {name: OBSERVERS[observer](options.percentile) for name, observer in names.items()}
    seen: set[str] = set()
    for values in activations(model, samples, tensors, progress):
        for name, array in values.items():
            if not np.isfinite(array).all():
                raise UsageError(f"the float32 model itself gives NaN or infinite values in {name!r} on this data")
            if array.size:
                observers[name].add(array)
                seen.add(name)
    if missing := [name for name in tensors if name not in seen]:
        raise UsageError(f"{missing[0]!r} has no values in any calibration sample; give samples that reach it")
    return {name: observer.range(levels, symmetric) for name, observer in observers.items()}


def activations(
    model: onnx.ModelProto,
    samples: Iterable[Sample],
    tensors: Sequence[str],
    progress: Progress | None = None,
    budget: int = BUDGET,
) -> Iterator[dict[str, np.ndarray]]:
    """The values of `tensors` (inputs, intermediate values or outputs) for one sample after the other.

    Where they would not fit `budget` bytes together, the samples are walked again for each part of them, and a
    dictionary holds one part. Any model that ONNX Runtime runs, quantized ones too.
    """
    graph = Graph(model)
    fed = [name for name in tensors if name in graph.inputs]
    parts = _parts(graph, [name for name in tensors if name not in graph.inputs], samples, budget)
    for number, part in enumerate(parts or [[]]):
        task = f"calibrating, pass {number + 1} of {len(parts)}" if len(parts) > 1 else "calibrating"
        session = open_session(_with_outputs(model, part)) if part else None
        for i, sample in enumerate(samples):
            values = {} if number else {name: sample[name] for name in fed}
            if session:
                try:
                    values.update(zip(part, session.run(part, sample), strict=True))
                except Exception as error:
                    raise UsageError(f"the model does not run on calibration sample {i}: {error}") from None
            yield values
            if progress:
                progress(task, i + 1, None)


def _parts(graph: Graph, names: list[str], samples: Iterable[Sample], budget: int) -> list[list[str]]:
    first = next(iter(samples), {})
    known: dict[str, int] = {}
    for name, array in first.items():
        known.update(
            (dim, size) for dim, size in zip(graph.shape(name) or (), array.shape, strict=False) if isinstance(dim, str)
        )
    parts: list[list[str]] = [[]]
    used = 0
    for name in names:
        dims = [known.get(d) if isinstance(d, str) else d for d in graph.shape(name) or (None,)]
        size = 4 * (UNKNOWN if None in dims else int(np.prod(dims, dtype=np.int64)))  # type: ignore[arg-type]
        if parts[-1] and used + size > budget:
            parts.append([])
            used = 0
        parts[-1].append(name)
        used += size
    return [part for part in parts if part]


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The model with exactly these outputs; what they do not need is left to the session to drop."""
    graph = Graph(model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    for name in names:
        value = graph.values.get(name)
        result.graph.output.append(value if value is not None else onnx.helper.make_empty_tensor_value_info(name))
    return result
