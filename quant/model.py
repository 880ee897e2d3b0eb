"""The float32 model to quantize: read, cleaned and completed; and the file a quantized one is written to."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, version_converter

from quant.graph import subgraphs
from targets.errors import UnsupportedModel, UsageError

_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
_QUANTIZED |= {"MatMulNBits", "QGemm", "GatherBlockQuantized"}
# Protocol buffers end at 2 GiB; weights go beside the file well before that.
_EXTERNAL_FROM = 1 << 30
# Constants of at most so many elements may say a shape.
_SMALL = 1024


def prepare(model: str | Path | onnx.ModelProto, opset: int = 13) -> onnx.ModelProto:
    """The same float32 model, clean: batch normalisation and constants folded, every value typed, every node named.

    The default domain's opset is at least `opset`. Raises UsageError for a file that is no ONNX model or already
    quantized, UnsupportedModel if ONNX Runtime does not load it or its opset cannot be raised.
    """
    proto = read(model)
    found = {node.op_type for graph in subgraphs(proto.graph) for node in graph.node}
    if done := sorted(op for op in found if op in _QUANTIZED or op.startswith("QLinear")):
        raise UsageError(f"the model is quantized already (it has {', '.join(done)}); give the float32 one")
    return typed(named(optimised(named(raised(proto, opset)))))


def read(model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """A model from a file, its weights read too; one given as such is copied. Raises UsageError if it is no model."""
    if isinstance(model, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    try:
        proto = onnx.load(str(model))
    except (OSError, onnx.checker.ValidationError) as error:
        raise UsageError(f"{model}: cannot be read ({error})") from None
    except Exception:
        raise UsageError(f"{model}: not an ONNX model, or a damaged one") from None
    if not proto.graph.output:
        raise UsageError(f"{model}: not an ONNX model, or a damaged one")
    return proto


def raised(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model with the default domain's opset at least `opset`. Raises UnsupportedModel where ONNX cannot."""
    have = opset_of(model)
    if have >= opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:
        why = str(error).strip().splitlines()[-1]
        raise UnsupportedModel(f"cannot raise the model's opset from {have} to {opset}, needed here: {why}") from None


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the default domain's operators."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """ONNX Runtime's basic optimisations: constants, batch normalisation and the like folded, every value typed.

    The result is standard ONNX. Raises UnsupportedModel if ONNX Runtime does not load the model.
    """
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = session_options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "optimised.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1048576")
        with _loadable(model) as source:
            try:
                ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
            except Exception as error:
                raise UnsupportedModel(f"ONNX Runtime does not load the model: {error}") from None
        return onnx.load(options.optimized_model_filepath)


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a name of its own for every node (in place): reports and options speak of nodes by name."""
    taken: set[str] = set()
    for node in model.graph.node:
        base = node.name or f"{node.op_type}_{next(filter(None, node.output), '')}"
        name, i = base, 1
        while name in taken:
            i += 1
            name = f"{base}_{i}"
        node.name = name
        taken.add(name)
    used = {node.domain for graph in subgraphs(model.graph) for node in graph.node}
    used |= {node.domain for function in model.functions for node in function.node}
    kept = [entry for entry in model.opset_import if entry.domain in used or entry.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


def typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with types and shapes of every value ONNX can infer (in place). Large weights are not copied for it."""
    light = onnx.ModelProto()
    light.CopyFrom(onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import))
    graph = light.graph
    for field in ("node", "input", "output", "sparse_initializer"):
        getattr(graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims, dtype=np.int64)) <= _SMALL:
            graph.initializer.append(tensor)  # shapes may depend on its values
        elif all(value.name != tensor.name for value in graph.input):
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    light.functions.extend(model.functions)
    graph.name = model.graph.name or "graph"
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)
    return model


def session_options():  # type: ignore[no-untyped-def]
    """Settings for ONNX Runtime that all of `quant` runs with: silent, the same result on every run."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.use_deterministic_compute = True
    return options


@contextlib.contextmanager
def _loadable(model: onnx.ModelProto) -> Iterator[bytes | str]:
    """What ONNX Runtime's session takes: the model's bytes, or a temporary file where it is too large for that."""
    if model.ByteSize() < _EXTERNAL_FROM:
        yield model.SerializeToString()
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        save(model, path)
        yield str(path)


def open_session(model: onnx.ModelProto, optimise: bool = True):  # type: ignore[no-untyped-def]
    """An ONNX Runtime session on the CPU. `optimise=False` runs the graph node by node, as it is written."""
    import onnxruntime as ort

    options = session_options()
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with _loadable(model) as source:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def save(model: onnx.ModelProto, path: str | Path) -> None:
    """Write the model, whole or not at all. Weights of models beyond 1 GiB go to a file beside it, NAME.data."""
    path = Path(path)
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder does not exist")
    with tempfile.TemporaryDirectory(prefix=".edgert-", dir=path.parent) as folder:
        part, beside = Path(folder, path.name), path.name + ".data"
        if model.ByteSize() < _EXTERNAL_FROM:
            part.write_bytes(model.SerializeToString())
        else:
            onnx.save(read(model), str(part), save_as_external_data=True, location=beside)
            if Path(folder, beside).exists():
                os.replace(Path(folder, beside), path.with_name(beside))
        os.replace(part, path)


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all constants as the file stores them (two 4-bit values a byte)."""
    return sum(tensor_bytes(tensor) for graph in subgraphs(model.graph) for tensor in graph.initializer)


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes of one tensor as the file stores it."""
    bits = 4 if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4) else 0
    if not bits:
        bits = 8 * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    return -(-int(np.prod(tensor.dims, dtype=np.int64)) * bits // 8)
