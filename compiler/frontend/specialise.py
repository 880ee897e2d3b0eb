"""Fixes the model's input dimensions (`--shape`, `--dim`) or keeps them symbolic within bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from targets.errors import UsageError

BATCH = re.compile(r"(?i)^(batch|batch[_ ]?size|batches|bs|n|b|unk__\d+|batch.*|.*_batch)$")
MOST = 2**31 - 1


class Bounds(dict[str, tuple[int, int]]):
    """Symbolic dim -> smallest and largest value; `notes` says what was assumed."""

    def __init__(self, *args: object, notes: Sequence[str] = ()) -> None:
        super().__init__(*args)
        self.notes = list(notes)


def specialise(
    model: ir.Model,
    shapes: Mapping[str, Sequence[int]],
    dims: Mapping[str, tuple[int, int]],
    open_dims: tuple[int, int] | None = None,
) -> Bounds:
    """Writes the given dimensions into the model's inputs; what stays symbolic comes back with its bounds.

    shapes: input name -> all its dimensions. dims: dimension name -> smallest and largest value; equal ones fix it. An
    unnamed dimension of input `x` at axis 1 is called `x_1`. A leading dimension that is unnamed or called like a batch
    is 1 when nothing is said about it, and a note says so.
    open_dims: bounds for every dimension that is left open, so that `inspect` can look at any model; a note says so.
    Raises UsageError for an unknown name, a wrong rank, a contradiction, or a dimension that is left open.
    """
    inputs = {v.name or "": v for v in model.graph.inputs}
    for name in shapes:
        if name not in inputs:
            raise UsageError(f"--shape {name}: the model has no such input; {_list_inputs(inputs)}")
    for name, shape in shapes.items():
        _set_rank(inputs[name], shape, inputs)
    names = {name: _names(value) for name, value in inputs.items()}
    fixed = _from_shapes(shapes, inputs, names)
    known = sorted({dim for held in names.values() for dim in held if isinstance(dim, str)})
    bounds = Bounds()
    for dim, (low, high) in dims.items():
        _check_range(dim, low, high, known, fixed, inputs)
        if low == high:
            fixed[dim] = low
        else:
            bounds[dim] = (low, high)
    for input_name, held in names.items():
        first = held[0] if held else 0
        if isinstance(first, int) or first in fixed or first in bounds:
            continue
        if first == f"{input_name}_0" or BATCH.match(first):
            fixed[first] = 1
            bounds.notes.append(f"dimension {first} of input {input_name} taken as 1 (--dim {first}=N sets it)")
    if open_dims is not None:
        for dim in _left_open(names, fixed, bounds):
            bounds[dim] = open_dims
            bounds.notes.append(f"dimension {dim} taken as {open_dims[0]}..{open_dims[1]}; give --dim {dim}=...")
    _check_complete(names, fixed, bounds, inputs)
    for name, value in inputs.items():
        if value.shape is not None:
            value.shape = ir.Shape([fixed.get(d, d) if isinstance(d, str) else d for d in names[name]])
    return bounds


def _set_rank(value: ir.Value, shape: Sequence[int], inputs: Mapping[str, ir.Value]) -> None:
    if value.shape is None:
        value.shape = ir.Shape([None] * len(shape))
    if len(value.shape) != len(shape):
        counts = f"{len(shape)} dimensions given, the input has {len(value.shape)}"
        raise UsageError(f"--shape {value.name}: {counts}; {_list_inputs(inputs)}")


def _names(value: ir.Value) -> list[int | str]:
    """The input's dimensions: a number, its name, or for an unnamed one a name made from the input's."""
    if value.shape is None:
        return []
    held: list[int | str] = []
    for axis, dim in enumerate(value.shape):
        if isinstance(dim, int):
            held.append(dim)
        else:
            held.append(str(dim.value) if dim.value else f"{value.name}_{axis}")
    return held


def _from_shapes(
    shapes: Mapping[str, Sequence[int]], inputs: Mapping[str, ir.Value], names: Mapping[str, list[int | str]]
) -> dict[str, int]:
    """The dimensions that --shape fixes. Raises UsageError where it contradicts the model or itself."""
    fixed: dict[str, int] = {}
    for name, shape in shapes.items():
        for axis, (held, given) in enumerate(zip(names[name], shape, strict=True)):
            if given < 0 or given > MOST or (given == 0 and held != 0):
                raise UsageError(f"--shape {name}: dimension {axis} is {given}; give a number from 1 to {MOST}")
            before = held if isinstance(held, int) else fixed.get(held, given)
            if before != given:
                what = f"the model fixes {before}" if isinstance(held, int) else f"elsewhere {held} is {before}"
                raise UsageError(f"--shape {name}: dimension {axis} is {given}, {what}; {_list_inputs(inputs)}")
            if isinstance(held, str):
                fixed[held] = given
    return fixed


def _check_range(
    dim: str, low: int, high: int, known: Sequence[str], fixed: Mapping[str, int], inputs: Mapping[str, ir.Value]
) -> None:
    if dim not in known:
        names = f"it has {', '.join(known)}" if known else "all its dimensions are fixed"
        raise UsageError(f"--dim {dim}: the model has no such dimension; {names}; {_list_inputs(inputs)}")
    if not 1 <= low <= high <= MOST:
        raise UsageError(f"--dim {dim}={low}..{high}: bounds must grow and lie within 1..{MOST}")
    if dim in fixed and (low, high) != (fixed[dim], fixed[dim]):
        raise UsageError(f"--dim {dim}={low}..{high}: --shape fixes it at {fixed[dim]}; give one of the two")


def _left_open(names: Mapping[str, list[int | str]], *known: Mapping) -> list[str]:
    """The dimensions that nothing says anything about."""
    dims = {dim for held in names.values() for dim in held if isinstance(dim, str)}
    return sorted(dim for dim in dims if not any(dim in given for given in known))


def _check_complete(
    names: Mapping[str, list[int | str]], fixed: Mapping[str, int], bounds: Bounds, inputs: Mapping[str, ir.Value]
) -> None:
    """Raises UsageError that names every dimension still open and the flags that close them."""
    unranked = [name for name, value in inputs.items() if value.shape is None and isinstance(value.type, ir.TensorType)]
    if unranked:
        raise UsageError(f"the shape of input {unranked[0]} is unknown: give --shape {unranked[0]}=...")
    left = _left_open(names, fixed, bounds)
    if left:
        flags = " ".join(f"--dim {dim}=N (or {dim}=1..N)" for dim in left)
        raise UsageError(f"dimensions left open: give {flags}, or --shape; {_list_inputs(inputs)}")


def _list_inputs(inputs: Mapping[str, ir.Value]) -> str:
    """`inputs: x=Nx3x224x224, mask=1xseq`, as --shape takes them."""
    texts = []
    for name, value in inputs.items():
        dims = "?" if value.shape is None else "x".join(str(d) for d in _names(value)) or "scalar"
        texts.append(f"{name}={dims}")
    return "inputs: " + ", ".join(texts)
