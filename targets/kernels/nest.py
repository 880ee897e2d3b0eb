"""The generic loop nest: element-wise chains, data movement and reductions that no template takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from targets.target import Target

from .access import Access, analyse, is_zero
from .builder import Builder
from .loops import ceil_div, merge_axes, span, tasks, unflatten
from .reduction import reduction_nest
from .stage import Stage
from .tensor import Index, Tensor, as_expr, product, simplify
from .transpose import transpose_nest

# how a family computes one expression into one leaf, where it has a way of its own
NESTS: dict[str, Callable[[Tensor, Tensor, Target, str], list[Stage]]] = {}
CHUNK = 8192  # elements that a task takes of a long row
COPIES = 16  # a map that would be written out more often than this gets a buffer of its own


def lower_nest(pairs: Sequence[tuple[Tensor, Tensor]], target: Target, name: str = "nest") -> list[Stage]:
    """Stages that compute each expression of `pairs` and store it in its leaf; inner reductions get buffers."""
    stages: list[Stage] = []
    done: set[int] = set()
    copies = _count_copies([expression for expression, _ in pairs])
    for expression, leaf in pairs:
        _materialise(expression, stages, done, copies, target, name, top=True)
        stages += _nest(expression, leaf, target, name)
        if expression.reduction is not None and not expression.materialised:
            # a later pair may read it: from now on it is what was stored
            expression.fn, expression.inputs, expression.reduction = leaf, (leaf,), None
    return stages


def _materialise(
    t: Tensor, stages: list[Stage], done: set[int], copies: dict[int, int], target: Target, name: str, top: bool = False
) -> None:
    if id(t) in done or t.materialised:
        return
    done.add(id(t))
    for source in t.inputs:
        _materialise(source, stages, done, copies, target, name)
    if not top and (t.reduction is not None or (t.fn is not None and copies[id(t)] > COPIES)):
        stages += _nest(t, t, target, name)
        t.materialised = True


def _count_copies(roots: Sequence[Tensor]) -> dict[int, int]:
    """How often each tensor's expression would be written out; one of a root's own shape is kept in a local: once."""
    order: list[Tensor] = []
    seen: set[int] = set()

    def visit(t: Tensor) -> None:
        if id(t) not in seen:
            seen.add(id(t))
            for source in t.inputs:
                visit(source)
            order.append(t)

    for root in roots:
        visit(root)
    copies = {id(t): 0 for t in order}
    for t in reversed(order):
        if t.reduction is not None or any(_same_shape(t.shape, root.shape) for root in roots):
            copies[id(t)] = 1
        for source in t.inputs:
            copies[id(source)] = min(copies[id(source)] + copies[id(t)], 1 << 30)
    return copies


def _same_shape(a: Sequence[Index], b: Sequence[Index]) -> bool:
    return len(a) == len(b) and all(is_zero(x - y) for x, y in zip(a, b, strict=True))


def _nest(t: Tensor, out: Tensor, target: Target, name: str) -> list[Stage]:
    if any(isinstance(extent, int) and extent == 0 for extent in t.shape):
        return []  # nothing to store
    if target.family in NESTS:
        return NESTS[target.family](t, out, target, name)
    b = Builder(f"{name}_{t.dtype}")
    with b:
        if t.reduction is not None:
            reduction_nest(b, t, out, target)
        else:
            # t itself is the buffer where a map is materialised, so its function is called, not read
            _map_nest(b, t.fn if t is out and t.fn is not None else t, t.shape, out, target)
    return [b.stage(once=t.reduction is None)]


def _map_nest(b: Builder, fn: Callable[..., tirx.Expr], shape: Sequence[Index], out: Tensor, target: Target) -> None:
    access = analyse(fn, shape)
    axes = merge_axes(access, range(len(shape)))
    buffer = b.arg(out)

    def element(at: Sequence[Index]) -> None:
        indices = axes.indices(at)
        b.share(indices, shape)
        b.store(buffer, indices, fn(*indices))

    if not axes.extents:
        with b.parallel(1):
            element([])
        return
    if access.copies and transpose_nest(b, access, axes, out, target):
        return
    lanes = _lanes(access, out, target)
    *outer, row = axes.extents
    if not _splits(outer, row):
        with tasks(b, outer, row if isinstance(row, int) else 64) as at:
            span(b, row, lanes, lambda i: element([*at, i]))
        return
    with tasks(b, [*outer, ceil_div(row, CHUNK)], CHUNK) as at:
        start = at[-1] * CHUNK
        count: Index = CHUNK
        if not (isinstance(row, int) and row % CHUNK == 0):
            count = b.let(tirx.min(as_expr(CHUNK, "int64"), as_expr(row, "int64") - start), "count")
        span(b, count, lanes, lambda i: element([*at[:-1], start + i]))


def _splits(outer: Sequence[Index], row: Index) -> bool:
    """Whether rows are cut into tasks: they are long, and there are too few of them to share out."""
    count = simplify(product(outer))
    return (not isinstance(row, int) or row > CHUNK) and isinstance(count, int) and count < 64


def _lanes(access: Access, out: Tensor, target: Target) -> int:
    """A register of 32-bit elements: expressions mix widths, and 32 bits is what they compute in. Copies fill it."""
    return target.lanes(out.dtype if access.copies and out.dtype != "bool" else "float32")


__all__ = ["lower_nest", "unflatten"]
