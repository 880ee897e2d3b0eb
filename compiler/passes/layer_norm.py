"""Normalisation over trailing axes, spelled out by exporters, becomes ONNX's LayerNormalization or RMSNormalization.

(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * scale + bias (ONNX LayerNormalization-17); without the mean, and
with no bias, it is RMSNormalization-23 (Zhang and Sennrich, arXiv 1910.07467).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from targets.kernels.tensor import same_shape
from targets.target import Target

from .algebra import WIDE, NoMatch, Pattern, operands
from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """Each Sqrt may be the deviation of one normalisation."""
    return sum(_rewrite(edit, node) for node in edit.nodes("Sqrt", "Pow") if node.outputs[0].uses()) > 0


def _rewrite(edit: Edit, root: ir.Node) -> bool:
    """`root` is the square root of mean square + epsilon."""
    try:
        pattern = Pattern(edit)
        square, axis, epsilon = _mean_square(pattern, root)
        top, scale = _applied(pattern, root, square)
    except NoMatch:
        return False
    shape = edit.shape(square)[axis:]
    fits = scale is None or _fits(edit, scale, shape)
    if edit.dtype(square) not in WIDE or not fits or not all(isinstance(d, int) for d in shape):
        return False
    # where somebody else reads x - mean, what is left is the root mean square of that difference
    for x, whole in (_centred(pattern, square, axis), (square, pattern)):
        if x is not None and whole.closed(top) and same_shape(edit.shape(top), edit.shape(x)):
            _write(edit, x, top, scale, {"axis": axis - len(edit.shape(x)), "epsilon": epsilon}, whole is not pattern)
            return True
    return False


def _write(edit: Edit, x: ir.Value, top: ir.Value, scale: ir.Value | None, attrs: dict, centred: bool) -> None:
    """The one node in place of `top`, and of the scale's multiplication and the bias's addition that follow."""
    shape, dtype = edit.shape(x)[int(attrs["axis"]) :], edit.dtype(x)
    if scale is None:
        top, scale = _absorbed(edit, top, "Mul", shape)
    stop, bias = _absorbed(edit, top, "Add", shape) if centred else (top, None)
    last = stop.producer()
    assert last is not None
    inputs = [x, _operand(edit, scale, shape, dtype)]
    if centred:
        inputs += [_operand(edit, bias, shape, dtype)] if bias is not None else []
        made = edit.insert(last, "LayerNormalization", inputs, attrs, stem=str(stop.name))
    else:
        made = edit.insert(last, "RMSNormalization", inputs, attrs, stem=str(stop.name), version=23)
    edit.replace(stop, made)


def _mean_square(pattern: Pattern, root: ir.Node) -> tuple[ir.Value, int, float]:
    """What is squared, the first axis the mean is taken over (it and all behind it), and epsilon."""
    edit = pattern.edit
    if root.op_type == "Pow" and edit.scalar(root.inputs[1]) not in (0.5, -0.5):
        raise NoMatch
    pattern.take(root)
    shifted = pattern.producer(root.inputs[0], "Add")
    variance, epsilon = operands(edit, shifted)
    mean = pattern.producer(variance, "ReduceMean")
    power = pattern.producer(mean.inputs[0], "Pow", "Mul")
    square = power.inputs[0]
    squared = power.inputs[1] is square if power.op_type == "Mul" else edit.scalar(power.inputs[1]) == 2.0
    if square is None or not squared:
        raise NoMatch
    return square, _trailing(edit, mean), epsilon


def _trailing(edit: Edit, mean: ir.Node) -> int:
    """The first of the axes of a ReduceMean that keeps dimensions and takes all axes from some on. Raises NoMatch."""
    x = mean.inputs[0]
    assert x is not None
    rank, axes = len(edit.shape(x)), edit.attr(mean, "axes")
    if axes is None and len(mean.inputs) > 1 and mean.inputs[1] is not None:
        given = edit.const(mean.inputs[1])
        if given is None:
            raise NoMatch
        axes = given.tolist()
    if not edit.attr(mean, "keepdims", 1) or (not axes and edit.attr(mean, "noop_with_empty_axes", 0)):
        raise NoMatch
    chosen = sorted(a % rank for a in axes) if axes else list(range(rank))
    if not chosen or chosen != list(range(chosen[0], rank)):
        raise NoMatch
    return chosen[0]


def _applied(pattern: Pattern, root: ir.Node, square: ir.Value) -> tuple[ir.Value, ir.Value | None]:
    """The value square / deviation [* scale]: through Div, or Reciprocal (1 / deviation), perhaps scaled, then Mul."""
    edit, value, scale = pattern.edit, root.outputs[0], None
    user = edit.only_use(value)
    if root.op_type == "Sqrt" or edit.scalar(root.inputs[1]) == 0.5:
        if user is None or user.domain:
            raise NoMatch
        if user.op_type == "Div" and user.inputs[0] is square and user.inputs[1] is value:
            pattern.take(user)
            return user.outputs[0], None
        if user.op_type != "Reciprocal" and not (user.op_type == "Div" and edit.scalar(user.inputs[0]) == 1.0):
            raise NoMatch
        pattern.take(user)
        value = user.outputs[0]
        user = edit.only_use(value)
    if user is None or user.domain or user.op_type != "Mul":
        raise NoMatch
    other = user.inputs[1] if user.inputs[0] is value else user.inputs[0]
    pattern.take(user)
    if other is square:
        return user.outputs[0], None
    # TensorFlow multiplies the scale first: square * (rsqrt * scale)
    scale, value = other, user.outputs[0]
    user = edit.only_use(value)
    if user is None or user.domain or user.op_type != "Mul" or square not in user.inputs or scale is None:
        raise NoMatch
    if scale.name not in edit.facts.constants:
        raise NoMatch
    pattern.take(user)
    return user.outputs[0], scale


def _centred(pattern: Pattern, square: ir.Value, axis: int) -> tuple[ir.Value | None, Pattern]:
    """x where `square` is x - mean(x) over the same axes, and the pattern with that; None for anything else."""
    edit = pattern.edit
    attempt = Pattern(edit, list(pattern.nodes))
    try:
        minus = attempt.producer(square, "Sub")
        x = minus.inputs[0]
        mean = attempt.producer(minus.inputs[1], "ReduceMean")
        if mean.inputs[0] is not x or _trailing(edit, mean) != axis:
            return None, attempt
    except NoMatch:
        return None, attempt
    return x, attempt


def _fits(edit: Edit, value: ir.Value | None, shape: tuple) -> bool:
    """Whether `value` can be the scale or the bias: of the normalised shape, or a constant that spreads to it."""
    if value is None:
        return False
    own = edit.shape(value)
    while len(own) > len(shape) and isinstance(own[0], int) and own[0] == 1:
        own = own[1:]
    if value.name not in edit.facts.constants:
        return len(own) == len(edit.shape(value)) and same_shape(own, shape)
    return len(own) <= len(shape) and all(a in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False))


def _absorbed(edit: Edit, top: ir.Value, op: str, shape: tuple) -> tuple[ir.Value, ir.Value | None]:
    """The result of the `op` that alone reads `top`, and its other operand, which fits; else `top` and None."""
    user = edit.only_use(top)
    if user is not None and user.op_type == op and not user.domain:
        other = user.inputs[1] if user.inputs[0] is top else user.inputs[0]
        if _fits(edit, other, shape):
            return user.outputs[0], other
    return top, None


def _operand(edit: Edit, value: ir.Value | None, shape: tuple, dtype: str) -> ir.Value:
    """The scale or bias in the normalised shape; ones for none."""
    if value is None:
        return edit.constant("ones", np.ones(shape, dtype))
    if value.name not in edit.facts.constants or same_shape(edit.shape(value), shape):
        return value
    data = edit.facts.constants.tensor(str(value.name))
    rank = len(shape)

    def spread() -> np.ndarray:
        array = data.numpy()
        return np.broadcast_to(array.reshape(array.shape[max(0, array.ndim - rank) :]), shape)

    return edit.constant(str(value.name), spread, (shape, dtype))
