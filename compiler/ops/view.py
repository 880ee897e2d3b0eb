"""The same bytes under another shape: Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout."""

from __future__ import annotations

from targets.kernels.tensor import Index, Tensor, compute, product

from . import mathfn as fn
from .registry import Node, Unsupported, op
from .shapes import axes_of, declared_shape, is_one, known, quotient, reshaped


@op("Identity", since=1, kind="view")
def identity(node: Node) -> Tensor:
    """The input itself."""
    x = node.need(0)
    return compute(x.shape, x.dtype, x, [x], "identity")


@op("Reshape", since=5, kind="view")
def reshape(node: Node) -> Tensor:
    """0 keeps the input's dimension (unless allowzero), -1 takes what is left."""
    x = node.need(0)
    if not known(node, 1):
        return reshaped(x, declared_shape(node, "shape"))
    wanted = list(node.ints(1, "shape") or [])
    if not node.attr("allowzero", 0):
        if any(isinstance(d, int) and d == 0 for d in wanted[x.ndim :]):
            raise Unsupported("a 0 in the new shape beyond the input's dimensions", "0 only where a dimension is kept")
        wanted = [x.shape[i] if isinstance(d, int) and d == 0 else d for i, d in enumerate(wanted)]
    free = [i for i, d in enumerate(wanted) if isinstance(d, int) and d == -1]
    if free:
        if len(free) > 1:
            raise Unsupported(f"more than one -1 in shape {wanted}", "one -1")
        rest = [d for i, d in enumerate(wanted) if i != free[0]]
        wanted[free[0]] = 0 if _empty(rest) else quotient(x.shape, rest)
    return reshaped(x, _same_size(x, wanted))


def _empty(dims: list[Index]) -> bool:
    return any(isinstance(d, int) and d == 0 for d in dims)


def _same_size(x: Tensor, shape: list[Index]) -> list[Index]:
    have, want = product(x.shape), product(shape)
    if isinstance(have, int) and isinstance(want, int) and have != want:
        raise Unsupported(f"cannot reshape {have} elements to shape {shape}", "a shape with as many elements")
    return shape


@op("Flatten", since=1, kind="view")
def flatten(node: Node) -> Tensor:
    """To two dimensions: those before `axis` and those from it on."""
    x = node.need(0)
    axis = node.attr("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return reshaped(x, [product(x.shape[:axis]), product(x.shape[axis:])], "flatten")


@op("Squeeze", since=1, kind="view")
def squeeze(node: Node) -> Tensor:
    """Axes: an attribute before opset 13, an input since; all dimensions of 1 where there are none."""
    x = node.need(0)
    if not known(node, 1):
        return reshaped(x, declared_shape(node, "axes"), "squeeze")
    axes = node.attr("axes") if node.version < 13 else node.ints(1, "axes")
    drop = [i for i, d in enumerate(x.shape) if is_one(d)] if axes is None else axes_of(axes, x.ndim)
    if any(isinstance(x.shape[i], int) and x.shape[i] != 1 for i in drop):
        raise Unsupported(f"cannot squeeze axes {drop} of shape {x.shape}", "dimensions of 1")
    return reshaped(x, [d for i, d in enumerate(x.shape) if i not in drop], "squeeze")


@op("Unsqueeze", since=1, kind="view")
def unsqueeze(node: Node) -> Tensor:
    """Axes: an attribute before opset 13, an input since."""
    x = node.need(0)
    if not known(node, 1):
        return reshaped(x, declared_shape(node, "axes"), "unsqueeze")
    axes = node.attr("axes") if node.version < 13 else node.ints(1, "axes")
    new = axes_of(axes or [], x.ndim + len(axes or []))
    rest = iter(x.shape)
    return reshaped(x, [1 if i in new else next(rest) for i in range(x.ndim + len(new))], "unsqueeze")


@op("Dropout", since=7, kind="elementwise")  # not a view: the mask is no part of the input
def dropout(node: Node) -> list[Tensor | None]:
    """Inference: the data itself, and a mask of ones. Training mode (random) is refused."""
    x = node.need(0)
    if node.input(2) is not None:
        mode, ratio = node.const(2), node.const(1)
        if mode is None or bool(mode.reshape(-1)[0]) and not (ratio is not None and float(ratio.reshape(-1)[0]) == 0):
            raise Unsupported("Dropout in training mode draws random numbers", "training_mode=0")
    mask = None
    if len(node.outputs) > 1 and node.outputs[1]:
        dtype = "bool" if node.version >= 10 else x.dtype
        mask = compute(x.shape, dtype, lambda *i: fn.const(1, dtype), [], "mask")
    return [identity(node), mask]
