"""The cases of onnx.backend.test.case.node, and which operator each is about."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx

# Inputs that fix an output's shape (or the form of the computation): real models hold them as constants, ONNX's cases
# give them at run time. Integers and booleans of rank 0 or 1 count by themselves; these are floats.
SHAPING_FLOATS = {"Resize": ("roi", "scales"), "Upsample": ("scales",), "Range": ("start", "limit", "delta")}


@dataclass(frozen=True, eq=False)
class Case:
    """One case: a model, its inputs and the outputs it must give within the tolerances."""

    name: str
    operator: str
    model: onnx.ModelProto
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    rtol: float
    atol: float


@cache
def all_cases() -> list[Case]:
    """Every node case, in ONNX's order. Takes about 15 seconds: ONNX computes the expected outputs."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows in the cases' own arithmetic
        found = collect_testcases(None)
    operators = {case.name: case.model.graph.node[0].op_type for case in found if case.model}
    cases = []
    for case in found:
        if case.model is None or not case.data_sets:
            continue
        inputs, outputs = ([_array(v) for v in values] for values in case.data_sets[0])
        base = re.sub(r"_expanded.*$", "", case.name)
        cases.append(
            Case(
                case.name, operators.get(base, operators[case.name]), case.model,
                dict(zip((v.name for v in case.model.graph.input), inputs, strict=False)),
                dict(zip((v.name for v in case.model.graph.output), outputs, strict=False)),
                case.rtol, case.atol,
            )
        )  # fmt: skip
    return cases


def _array(value: Any) -> Any:
    """A tensor that ONNX gives as a message or as numpy's scalar, as an array; anything else as it is."""
    if isinstance(value, np.generic):
        return np.asarray(value)
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def with_constant_shapes(case: Case) -> Case | None:
    """The case with its shape-like inputs as initializers; None when it has none.

    Shape-like: integers or booleans of rank 0 or 1, and the floats of SHAPING_FLOATS.
    """
    floats: set[str] = set()
    for node in case.model.graph.node:
        schema_inputs = _input_names(node, case.model)
        wanted = SHAPING_FLOATS.get(node.op_type, ())
        floats |= {given for formal, given in zip(schema_inputs, node.input, strict=False) if formal in wanted}
    baked = {
        name: value
        for name, value in case.inputs.items()
        if isinstance(value, np.ndarray) and value.ndim <= 1 and (value.dtype.kind in "iub" or name in floats)
    }
    if not baked:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    kept = [v for v in model.graph.input if v.name not in baked]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in baked.items())
    left = {n: v for n, v in case.inputs.items() if n not in baked}
    return Case(case.name, case.operator, model, left, case.outputs, case.rtol, case.atol)


def exact_outputs(case: Case) -> dict[str, np.ndarray] | None:
    """The outputs worked out in double precision, for operators whose expected outputs are rounded more than allowed.

    ONNX computes the inverse DFT's expectation in float32: where the truth is zero it has 1.9e-7, and atol is 1e-7.
    """
    node = case.model.graph.node[0]
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if len(case.model.graph.node) != 1 or node.op_type != "DFT" or not attrs.get("inverse") or attrs.get("onesided"):
        return None
    given = dict(zip(("x", "dft_length", "axis"), (case.inputs.get(name) for name in node.input), strict=False))
    x, axis = given["x"], given.get("axis")
    if x is None or x.shape[-1] != 2 or given.get("dft_length") is not None:
        return None
    along = int(attrs.get("axis", -2) if axis is None else axis)
    y = np.fft.ifft(x[..., 0].astype(np.float64) + 1j * x[..., 1].astype(np.float64), axis=along)
    return {node.output[0]: np.stack([y.real, y.imag], axis=-1).astype(x.dtype)}


def _input_names(node: onnx.NodeProto, model: onnx.ModelProto) -> list[str]:
    version = {o.domain: o.version for o in model.opset_import}.get(node.domain, 1)
    try:
        return [i.name for i in onnx.defs.get_schema(node.op_type, version, node.domain).inputs]
    except onnx.defs.SchemaError:
        return []
