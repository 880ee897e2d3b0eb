"""What operators share about shapes and axes: normalising, dividing, reshaping, and values known at run time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.kernels.tensor import Index, Tensor, as_expr, compute, product, same_dim, simplify

from .registry import Node, Unsupported

Late = Callable[[], tirx.Expr]  # an int64 number that a kernel reads or knows


def axis_of(axis: Index, rank: int) -> int:
    """`axis` counted from the front. Raises Unsupported outside [-rank, rank)."""
    if not isinstance(axis, int) or not -rank <= axis < max(rank, 1):
        raise Unsupported(f"axis {axis} of a tensor with {rank} dimensions", f"an axis in [{-rank}, {rank})")
    return axis % rank if rank else 0


def axes_of(axes: Sequence[Index], rank: int) -> list[int]:
    """Axes counted from the front. Raises Unsupported for one given twice."""
    found = [axis_of(a, rank) for a in axes]
    if len(set(found)) != len(found):
        raise Unsupported(f"an axis stands twice in {list(axes)}", "each axis once")
    return found


def known(node: Node, i: int) -> bool:
    """Whether input i is omitted or known at compile time."""
    return node.input(i) is None or (i < len(node.constants) and node.constants[i] is not None)


def declared_shape(node: Node, what: str, output: int = 0) -> tuple[Index, ...]:
    """The shape that the model declares for an output whose size depends on values known only at run time.

    Raises Unsupported where it declares none.
    """
    shape = node.output_shapes[output] if output < len(node.output_shapes) else None
    if shape is None or any(not isinstance(d, int | tirx.Expr) for d in shape):
        reason = f"{what} known only at run time and no declared output shape"
        raise Unsupported(reason, f"{node.op} with constant {what}")
    return tuple(shape)


def late_ints(node: Node, i: int, what: str) -> list[Late]:
    """Input i's elements as int64 expressions for a kernel, whether or not they are known yet.

    Raises Unsupported when their number is not known.
    """
    if known(node, i):
        return [_known(v) for v in node.ints(i, what) or []]
    t = node.need(i)
    count = product(t.shape)
    if t.ndim > 1 or not isinstance(count, int):
        raise Unsupported(f"{what} of shape {t.shape}", f"a list of {what} of known length")
    return [_read(t, k) for k in range(count)]


def _known(value: Index) -> Late:
    return lambda: as_expr(value, "int64")


def _read(t: Tensor, k: int) -> Late:
    return lambda: t(*[k] * t.ndim).astype("int64")


def clamp_index(i: tirx.Expr, size: Index) -> tirx.Expr:
    """`i` held within [0, size)."""
    return tirx.max(tirx.min(i, as_expr(size, "int64") - as_expr(1, "int64")), as_expr(0, "int64"))


def wrap_index(i: tirx.Expr, size: Index) -> tirx.Expr:
    """A possibly negative data-dependent index counted from the front, held within [0, size)."""
    i = i.astype("int64")
    return clamp_index(tirx.Select(i < as_expr(0, "int64"), i + as_expr(size, "int64"), i), size)


def is_one(dim: Index) -> bool:
    """Whether a dimension is the number 1."""
    return isinstance(dim, int) and dim == 1


def quotient(dims: Sequence[Index], others: Sequence[Index]) -> Index:
    """product(dims) / product(others), cancelling equal symbolic dimensions first."""
    top, bottom = list(dims), []
    for dim in others:
        match = next((i for i, d in enumerate(top) if same_dim(d, dim)), None)
        if match is None:
            bottom.append(dim)
        else:
            top.pop(match)
    above, below = product(top), product(bottom)
    if is_one(below):
        return above
    if isinstance(above, int) and isinstance(below, int):
        if below == 0 or above % below:
            raise Unsupported(f"cannot divide {above} elements into {below}", "a shape with as many elements")
        return above // below
    return simplify(tirx.floordiv(as_expr(above, "int64"), as_expr(below, "int64")))


def reshaped(x: Tensor, shape: Sequence[Index], name: str = "reshape") -> Tensor:
    """`x` with its elements in the same order under another shape.

    Dimensions are paired off in groups of equal size, so that indices of untouched dimensions pass unchanged.
    """
    groups = _groups(list(x.shape), list(shape))

    def of(*i: Index) -> tirx.Expr:
        source: list[Index] = [0] * x.ndim
        for inside, outside in groups:
            if len(inside) == 1 and len(outside) == 1:
                source[inside[0]] = i[outside[0]]
                continue
            position: Index = 0
            for axis in outside:
                position = position * as_expr(shape[axis], "int64") + i[axis]
            for axis in reversed(inside[1:]):
                size = as_expr(x.shape[axis], "int64")
                source[axis] = tirx.floormod(as_expr(position, "int64"), size)
                position = tirx.floordiv(as_expr(position, "int64"), size)
            if inside:
                source[inside[0]] = position
        return x(*[as_expr(s) for s in source])

    return compute(shape, x.dtype, of, [x], name)


def _groups(a: list[Index], b: list[Index]) -> list[tuple[list[int], list[int]]]:
    """Axes of shape a against axes of shape b, in pairs of groups with as many elements. Ones are left out."""
    left = [i for i, d in enumerate(a) if not is_one(d)]
    right = [i for i, d in enumerate(b) if not is_one(d)]
    if any(isinstance(d, int) and d == 0 for d in (*a, *b)):
        return []  # no elements: nothing is ever read
    groups = []
    while left or right:
        inside, outside = left[:1], right[:1]
        del left[:1], right[:1]
        while not same_dim(product([a[i] for i in inside]), product([b[i] for i in outside])):
            small = _smaller(product([a[i] for i in inside]), product([b[i] for i in outside]))
            take_left = left and (small or not right)
            if take_left:
                inside.append(left.pop(0))
            elif right:
                outside.append(right.pop(0))
            else:
                return [([i for i, d in enumerate(a) if not is_one(d)], [i for i, d in enumerate(b) if not is_one(d)])]
        groups.append((inside, outside))
    return groups


def _smaller(a: Index, b: Index) -> bool:
    """Whether a < b; where that is not known, whether a divides b."""
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    rest = simplify(tirx.floormod(as_expr(b, "int64"), as_expr(a, "int64")))
    return isinstance(rest, int) and rest == 0
