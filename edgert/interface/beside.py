"""Run a quantized model as an artifact and in ONNX Runtime, side by side."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgert.interface.agreement import Agreement, agree, tap
from targets import host_features

SAMPLES = 4  # so many are run where nobody says how many
Sample = Mapping[str, np.ndarray]
Progress = Callable[[str, int, int], None]


def beside_onnxruntime(
    model: Path, samples: Sequence[Sample], artifact: Path | None = None, progress: Progress | None = None
) -> Agreement:
    """How the compiled `model` (a quantized ONNX file) and ONNX Runtime on the same file differ on `samples`.

    Outputs are those of `artifact`, compiled from the same file for this machine (made here where it is None). Codes
    inside are compared on a second artifact that gives them too. Raises whatever compiling raises.
    """
    import edgert
    from edgert.interface.build import build

    shapes, dims = _bounds(model, samples)
    with tempfile.TemporaryDirectory(prefix="edgert-beside-") as folder:
        tapped = Path(folder, "tapped.onnx")
        sources = tap(model, tapped)
        made = artifact or Path(folder, "model.edge")
        files = [(model, made)] if artifact is None else []
        if sources:
            files.append((tapped, tapped.with_suffix(".edge")))
        for done, (source, out) in enumerate(files):
            if progress:
                progress("compiling to compare", done, len(files))
            build(str(source), str(out), shapes=shapes, dims=dims, golden=False)
        with edgert.load(made, threads=1) as plain:
            outputs = agree(_both(plain, model, samples, progress), {})
        if not sources:
            return outputs
        with edgert.load(tapped.with_suffix(".edge"), threads=1) as inner:
            codes = agree(_both(inner, tapped, samples, progress), sources)
    return replace(codes, largest=outputs.largest, relative=outputs.relative)


def alike(samples: Any, count: int = SAMPLES) -> list[Sample]:
    """The first `count` samples whose inputs have as many dimensions as the first's: those one artifact can run."""
    found: list[Sample] = [dict(sample) for sample in islice(samples, count)]
    ranks = [{name: array.ndim for name, array in sample.items()} for sample in found]
    return [sample for sample, rank in zip(found, ranks, strict=True) if rank == ranks[0]]


def _both(
    ours: Any, model: Path, samples: Sequence[Sample], progress: Progress | None
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Our outputs and ONNX Runtime's, sample for sample."""
    session = reference(model)
    names = [value.name for value in session.get_outputs()]
    for done, sample in enumerate(samples):
        if progress:
            progress("comparing with ONNX Runtime", done, len(samples))
        theirs = dict(zip(names, session.run(None, dict(sample)), strict=True))
        yield ours.run(sample), theirs


def reference(model: Path) -> Any:
    """ONNX Runtime on `model` computing what is written there: with integer kernels, but on older processors those that
    do not saturate; float32 activations not rounded to bytes where only weights are quantized, as it does by itself."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if not {"avx512_vnni", "avx_vnni"} & host_features() and not _has_blocks(model):
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _has_blocks(model: Path) -> bool:
    """Whether any scale belongs to a block of values: ONNX Runtime's way around saturation spoils such nodes."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    return any(attribute.name == "block_size" for node in graph.node for attribute in node.attribute)


def _bounds(model: Path, samples: Sequence[Sample]) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, int]]]:
    """Shapes for inputs that are alike in all samples, bounds for the named dimensions of the others."""
    import onnx

    shapes: dict[str, tuple[int, ...]] = {}
    dims: dict[str, tuple[int, int]] = {}
    for value in onnx.load(str(model), load_external_data=False).graph.input:
        seen = [sample[value.name].shape for sample in samples]
        wanted = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in wanted):
            continue
        if len(set(seen)) == 1:
            shapes[value.name] = seen[0]
            continue
        for dim, sizes in zip(wanted, zip(*seen, strict=True), strict=True):
            if dim.dim_param:
                low, high = dims.get(dim.dim_param, (min(sizes), max(sizes)))
                dims[dim.dim_param] = (min(low, *sizes), max(high, *sizes))
    return shapes, dims
