"""An output whose declaration is wrong: another rank is told and the operators decide, another type is refused."""

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from compiler.frontend.inference import infer


def model(dtype: int, shape: list[int]) -> ir.Model:
    x, y = helper.make_tensor_value_info("x", 1, [2, 3]), helper.make_tensor_value_info("y", dtype, shape)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return ir.serde.deserialize_model(proto)


def test_another_rank_is_told() -> None:
    facts = infer(model(TensorProto.FLOAT, [6]))
    assert not facts.problems
    assert facts.values["y"].shape == (2, 3)
    assert facts.notes == ["output y is 2x3, though the model declares rank 1"]


def test_another_type_is_refused() -> None:
    (problem,) = infer(model(TensorProto.INT64, [2, 3])).problems
    assert "is float32, but the model declares int64" in problem.reason
