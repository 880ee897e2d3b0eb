"""The generic kernel of a graphics processor: one work item computes one element, whatever the expression."""

from __future__ import annotations

from tvm import tirx

from targets.gpu import Gpu
from targets.target import Target

from ..access import analyse
from ..loops import merge_axes
from ..nest import NESTS
from ..reduction import Reducer
from ..stage import Stage
from ..tensor import Tensor, largest, product
from .grid import Grid, place_of


def gpu_nest(t: Tensor, out: Tensor, target: Target, name: str) -> list[Stage]:
    """The kernel that computes the expression `t` and stores it in `out`."""
    assert isinstance(target, Gpu)
    if t is out and t.dtype == "float32" and target.halves(largest(product(t.shape))):
        t.stored = "float16"
    b = Grid(f"{name}_{t.dtype}", target)
    with b:
        if t.reduction is not None:
            _sum(b, t, out, target)
        else:
            _map(b, t, out)
    return [b.stage(once=t.reduction is None)]


def _map(b: Grid, t: Tensor, out: Tensor) -> None:
    # t itself is the buffer where a map is materialised, so its function is called, not read
    fn = t.fn if t is out and t.fn is not None else t
    axes = merge_axes(analyse(fn, t.shape), range(t.ndim))
    buffer = b.arg(out)
    with b.items(product(axes.extents)) as item:
        indices = axes.indices(place_of(item, axes.extents))
        b.share(indices, t.shape)
        b.store(buffer, indices, fn(*indices))


def _sum(b: Grid, t: Tensor, out: Tensor, target: Target) -> None:
    reducer = Reducer(b, t, out, target)
    with b.items(product(reducer.kept.extents)) as item:
        at = place_of(item, reducer.kept.extents)
        reducer.columns(at[:-1], at[-1] if at else tirx.const(0, "int64"), 1, 1)


NESTS["gpu"] = gpu_nest
