"""Several products of the same rows with weights in blocks, in one parallel loop: threads meet once, not after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tvm import tirx

from targets.target import Target

from .reading import Reading
from .registry import Call, stages_for, template
from .stage import Stage
from .tensor import Index, Tensor, as_expr, compute, same_dim, simplify

EACH = 7  # inputs of one product: sums; codes, scale, minimum, super scale, super minimum; bias


@template("edgert.JointBlocks")
def joint_blocks(call: Call, target: Target) -> list[Stage] | None:
    """codes int8 [..., K] and scales; for each product sums, a weight's five operands and a bias, or None; tiles
    at last where there are any.

    Every product as GemmBlocks by itself would be: see compiler/ops/decoder_rows.py.
    """
    made: list[list[Stage]] = []
    halves = call.inputs[-1:] if call.attrs.get("tiles") else []
    for inputs, attrs, out, result in zip(*parts(call.inputs, call.attrs), call.outputs, call.results, strict=True):
        *operands, bias = inputs
        final = out if bias is None else _biased(out, bias)
        stages = stages_for(
            Call("edgert.GemmBlocks", attrs, [*operands, *halves], [out], final, [result], call.config), target
        )
        if stages is None:
            return None
        made.append(stages)
    first, products = _first_once(made)
    if any(len(stages) != 1 for stages in products):
        return [stage for stages in made for stage in stages]
    return [*first, side_by_side([stage for (stage,) in products])]


def _first_once(made: Sequence[list[Stage]]) -> tuple[list[Stage], list[list[Stage]]]:
    """Where products have a stage of bf16_rows before them: that once, and products that read what it makes."""
    ahead = [stages[0] for stages in made if len(stages) == 2]
    if not ahead:
        return [], list(made)
    *_, rows = ahead[0].operands
    own = [stages[0].operands[-1] if len(stages) == 2 else None for stages in made]
    moved = [
        replace(stages[-1], operands=[rows if leaf is temp else leaf for leaf in stages[-1].operands])
        for stages, temp in zip(made, own, strict=True)
    ]
    return ahead[:1], [[stage] for stage in moved]


def parts(
    inputs: Sequence[Tensor | None], attrs: dict[str, Any]
) -> tuple[list[list[Tensor | None]], list[dict[str, int]]]:
    """For each product its inputs, as GemmBlocks has them and the bias behind, and its attributes."""
    count = len(attrs["bits"])
    padded = [*inputs, *[None] * (2 + count * EACH - len(inputs))]
    own = [[*padded[:2], *padded[2 + i * EACH : 2 + (i + 1) * EACH]] for i in range(count)]
    return own, [{name: int(attrs[name][i]) for name in ("bits", "size", "zero")} for i in range(count)]


def side_by_side(stages: Sequence[Stage]) -> Stage:
    """One kernel whose parallel loop runs through the tasks of each, which must not read one another's results."""
    begin, end = tirx.Var("begin", "int64"), tirx.Var("end", "int64")
    pointers: list[tirx.Var] = []
    dims: list[tirx.Var] = []
    body: list[tirx.Stmt] = []
    start: Index = 0
    for stage in stages:
        params = list(stage.func.params)
        pointers += params[: len(stage.operands)]
        dims += [v for v in stage.dims if not any(v.same_as(d) for d in dims)]
        first, last = params[-2:]
        tasks, offset = as_expr(stage.tasks, "int64"), as_expr(start, "int64")
        body.append(tirx.Bind(first, tirx.max(begin - offset, tirx.const(0, "int64"))))
        body.append(tirx.Bind(last, tirx.min(end - offset, tasks)))
        body.append(tirx.IfThenElse(first < last, stage.func.body, None))
        start = simplify(start + stage.tasks)
    dims.sort(key=lambda v: v.name)
    func = tirx.PrimFunc([*pointers, *dims, begin, end], tirx.SeqStmt(body)).with_attr("tirx.noalias", True)
    operands = [leaf for stage in stages for leaf in stage.operands]
    reading = _reading(stages)
    name = "_and_".join(dict.fromkeys(stage.kernel for stage in stages)) + "_side_by_side"
    return Stage(name, func, operands, dims, start, min(stage.grain for stage in stages), reading=reading)


def _reading(stages: Sequence[Stage]) -> Reading:
    """Of several stages' tasks one after the other; nothing where a unit is not as many tasks in each."""
    made, one = Reading(), stages[0]
    for stage in stages:
        own = stage.reading
        if not own.units or not same_dim(stage.tasks * one.reading.units, one.tasks * own.units):
            return Reading()
        made.spans += [replace(span, first=span.first + made.units) for span in own.spans]
        made.units += own.units
    return made


def _biased(out: Tensor, bias: Tensor) -> Tensor:
    return compute(out.shape, "float32", lambda *i: out(*i) + bias(i[-1]), [out, bias], "biased")
