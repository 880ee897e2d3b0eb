"""Models of one quantized operator, spelled by the pass, and ONNX Runtime on what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from compiler.frontend import load
from compiler.frontend.types import onnx_dtype
from compiler.passes import dead_code, spell_quantized
from compiler.passes.edit import Edit
from compiler.verify import verify
from targets import get_target

MS = "com.microsoft"
TARGET = get_target("host")
Q, DQ = "QuantizeLinear", "DequantizeLinear"
FLOAT, U8, I8, I32 = (np.dtype(t) for t in ("float32", "uint8", "int8", "int32"))


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng([17, *seed])


def whole(dtype: np.dtype, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng(*shape).integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def f32(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def u8(value: int) -> np.ndarray:
    return np.array(value, np.uint8)


def scales(*shape: int) -> np.ndarray:
    return rng(3, *shape).uniform(0.003, 0.03, shape).astype(np.float32)


def real(*shape: int) -> np.ndarray:
    return rng(*shape).standard_normal(shape).astype(np.float32)


def model_of(
    op: str, domain: str, inputs: Sequence[np.ndarray | None], given: Sequence[int], dtype: np.dtype, **attrs: Any
) -> onnx.ModelProto:
    names = ["" if v is None else f"i{k}" for k, v in enumerate(inputs)]
    node = helper.make_node(op, names, ["y"], "node", domain=domain, **attrs)
    fed = [helper.make_tensor_value_info(names[k], helper.np_dtype_to_tensor_dtype(inputs[k].dtype), inputs[k].shape)
           for k in given]  # fmt: skip
    kept = [numpy_helper.from_array(v, names[k]) for k, v in enumerate(inputs) if v is not None and k not in given]
    out = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(dtype), None)
    graph = helper.make_graph([node], "g", fed, [out], kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)],
                             ir_version=10)  # fmt: skip


def spelled(folder: Path, model: onnx.ModelProto) -> Edit:
    onnx.save(model, folder / "m.onnx")
    graph, facts = load(folder / "m.onnx")
    assert not facts.problems
    edit = Edit(graph, facts)
    assert spell_quantized.run(edit, TARGET)
    edit.complete()
    dead_code.run(edit, TARGET)
    verify(edit.model, edit.facts, "spell_quantized")
    return edit


def by_onnxruntime(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def written(edit: Edit) -> onnx.ModelProto:
    """The edited graph as a model of its own: standard ONNX, so ONNX Runtime can judge it."""
    nodes = []
    for node in edit.graph:
        proto = helper.make_node(
            node.op_type, [v.name if v is not None else "" for v in node.inputs], [v.name for v in node.outputs],
            domain=node.domain, **{name: a.value for name, a in node.attributes.items()},
        )  # fmt: skip
        nodes.append(proto)
    used = {name for node in nodes for name in node.input}
    tensors = {name: edit.graph.initializers[name].const_value for name in used & set(edit.graph.initializers)}
    kept = [
        onnx.TensorProto(name=name, dims=t.shape.numpy(), data_type=int(t.dtype), raw_data=t.tobytes())
        for name, t in tensors.items()
    ]
    infos = [
        [helper.make_tensor_value_info(v.name, int(onnx_dtype(edit.dtype(v))), edit.shape(v)) for v in values]
        for values in (edit.graph.inputs, edit.graph.outputs)
    ]
    graph = helper.make_graph(nodes, "g", infos[0], infos[1], kept)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)
