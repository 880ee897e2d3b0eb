"""Arrays to and from the buffers model code works on: checks of what the user gives, shapes of what comes back."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from edgert import dtypes
from edgert.errors import EdgertError, UsageError
from edgert.manifest import Dim, Slot, Tensor

Slots = ctypes.Array[ctypes.c_int64]


def bind_inputs(
    inputs: Mapping[str, Any], tensors: Sequence[Tensor], dims: Sequence[Dim], slots: Slots
) -> list[np.ndarray]:
    """Check `inputs` against the model's and give contiguous arrays in the model's order.

    Writes the extents of the symbolic dimensions `dims` to slots[:len(dims)]; a dimension that no input has gets its
    bound. Raises UsageError naming the input at fault, what was expected and what came."""
    if len(inputs) != len(tensors) or any(tensor.name not in inputs for tensor in tensors):
        raise _wrong_names(inputs, tensors)
    owner: list[str | None] = [None] * len(dims)
    for index, dim in enumerate(dims):
        slots[index] = dim.max
    arrays = []
    for tensor in tensors:
        array = np.asarray(inputs[tensor.name])
        if not dtypes.accepts(tensor.dtype, array.dtype):
            raise UsageError(f"input {tensor.name!r} is {array.dtype}, expected {tensor.dtype}")
        if array.shape != tensor.shape:
            _bind_shape(tensor, array.shape, dims, slots, owner)
        if not (array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative):
            array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
        arrays.append(array)
    return arrays


def _wrong_names(inputs: Mapping[str, Any], tensors: Sequence[Tensor]) -> UsageError:
    names = [tensor.name for tensor in tensors]
    missing = [repr(name) for name in names if name not in inputs]
    unknown = [repr(name) for name in inputs if name not in names]
    parts = [f"missing input {', '.join(missing)}"] if missing else []
    parts += [f"unknown input {', '.join(unknown)}"] if unknown else []
    return UsageError(f"{' and '.join(parts)}: the model takes {', '.join(map(repr, names)) or 'no input'}")


def _bind_shape(
    tensor: Tensor,
    shape: tuple[int, ...],
    dims: Sequence[Dim],
    slots: Slots,
    owner: list[str | None],
) -> None:
    """Match a shape with symbolic axes, or raise UsageError."""
    if len(shape) != len(tensor.shape):
        raise _wrong_shape(tensor, shape, dims)
    for extent, axis in zip(shape, tensor.shape, strict=True):
        if not isinstance(axis, Slot):
            if extent != axis:
                raise _wrong_shape(tensor, shape, dims)
            continue
        dim, before = dims[axis.slot], owner[axis.slot]
        if not dim.min <= extent <= dim.max:
            raise UsageError(
                f"input {tensor.name!r} has {dim.name} = {extent}, the model was compiled for {dim.min} to {dim.max}"
            )
        if before is not None and slots[axis.slot] != extent:
            raise UsageError(
                f"{dim.name} is {extent} in input {tensor.name!r} but {slots[axis.slot]} in {before!r}: give the same"
            )
        slots[axis.slot], owner[axis.slot] = extent, tensor.name


def _wrong_shape(tensor: Tensor, shape: tuple[int, ...], dims: Sequence[Dim]) -> UsageError:
    return UsageError(f"input {tensor.name!r} has shape {format_shape(shape)}, expected {describe_shape(tensor, dims)}")


def format_shape(shape: Sequence[object]) -> str:
    """A shape for people: `[1, 3, 224, 224]`."""
    return "[" + ", ".join(map(str, shape)) + "]"


def describe_shape(tensor: Tensor, dims: Sequence[Dim]) -> str:
    """A tensor's shape for people, with bounds: `[1, seq=1..512]`; an output's own extents as `<=m`."""
    parts: list[object] = []
    for axis in tensor.shape:
        if isinstance(axis, Slot) and axis.slot < len(dims):
            dim = dims[axis.slot]
            parts.append(f"{dim.name}={dim.min}..{dim.max}")
        else:
            parts.append(f"<={axis.max}" if isinstance(axis, Slot) else axis)
    return format_shape(parts)


def make_output(tensor: Tensor, given: Any = None) -> np.ndarray:
    """The array the code writes `tensor` to: `given` after checks, or a new one, with room for the largest extents.

    Raises UsageError when `given` is not a writable contiguous array of the right type and enough room."""
    if given is None:
        if tensor.static and tensor.bytes == prod(tensor.max_shape) * dtypes.item_size(tensor.dtype):
            return np.empty(tensor.max_shape, dtypes.array_dtype(tensor.dtype))
        return np.empty(tensor.bytes, np.uint8).view(dtypes.array_dtype(tensor.dtype))
    if not isinstance(given, np.ndarray) or not dtypes.accepts(tensor.dtype, given.dtype):
        raise UsageError(f"out[{tensor.name!r}] is not an array of {tensor.dtype}")
    if not (given.flags.c_contiguous and given.flags.writeable and given.flags.aligned and given.dtype.isnative):
        raise UsageError(f"out[{tensor.name!r}] is not contiguous and writable")
    if tensor.static and given.shape != tensor.max_shape:
        wanted = format_shape(tensor.max_shape)
        raise UsageError(f"out[{tensor.name!r}] has shape {format_shape(given.shape)}, expected {wanted}")
    if given.nbytes < tensor.bytes:
        raise UsageError(f"out[{tensor.name!r}] has {given.nbytes} bytes, the output may take {tensor.bytes}")
    return given


def shape_output(tensor: Tensor, array: np.ndarray, slots: Slots, ours: bool) -> np.ndarray:
    """`array`'s part that holds the output, in the shape the code reported. An array of `ours` that is mostly unused
    room is copied to a small one. Raises EdgertError when the code reported an extent it has no room for."""
    if array.shape == tensor.shape:
        return array
    shape = tuple([slots[axis.slot] if isinstance(axis, Slot) else axis for axis in tensor.shape])
    if shape != tensor.max_shape and any(not 0 <= n <= most for n, most in zip(shape, tensor.max_shape, strict=True)):
        raise EdgertError(
            f"the model code gave output {tensor.name!r} the shape {format_shape(shape)}: compile it again"
        )
    count = prod(shape)
    result = array.reshape(-1)[:count].reshape(shape)
    return result.copy() if ours and 2 * count < array.size else result
