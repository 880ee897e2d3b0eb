"""The generic loop nest: element-wise chains, data movement and reductions that no template takes."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from targets.target import Target

from .builder import Builder
from .stage import Stage
from .tensor import Index, Reduction, Tensor, as_expr, product

GRAIN = 8192  # elements below which a thread is not worth waking


def lower_nest(pairs: Sequence[tuple[Tensor, Tensor]], target: Target, name: str = "nest") -> list[Stage]:
    """Stages that compute each expression of `pairs` and store it in its leaf. Reductions inside get buffers of their own."""
    stages: list[Stage] = []
    done: set[int] = set()
    for expression, leaf in pairs:
        _materialise(expression, stages, done, target, name, top=True)
        stages.append(_nest(expression, leaf, target, name))
    return stages


def _materialise(t: Tensor, stages: list[Stage], done: set[int], target: Target, name: str, top: bool = False) -> None:
    if id(t) in done:
        return
    done.add(id(t))
    for source in t.inputs:
        _materialise(source, stages, done, target, name)
    if not top and t.reduction is not None and not t.materialised:
        stages.append(_nest(t, t, target, name))
        t.materialised = True


def unflatten(position: tirx.Expr, shape: Sequence[Index]) -> list[tirx.Expr]:
    """The indices of row-major `position` in `shape`."""
    indices: list[tirx.Expr] = []
    for extent in reversed(shape[1:]):
        size = as_expr(extent, "int64")
        indices.append(tirx.floormod(position, size))
        position = tirx.floordiv(position, size)
    return [position, *reversed(indices)] if shape else []


def _nest(t: Tensor, out: Tensor, target: Target, name: str) -> Stage:
    b = Builder(f"{name}_{t.dtype}")
    reader = t if t is not out else None
    with b:
        buffer = b.arg(out)
        shape = t.shape
        lanes = target.lanes("float32")
        inner = shape[-1] if shape and isinstance(shape[-1], int) and t.reduction is None else 1
        outer = list(shape[:-1]) + ([1] if inner != 1 else list(shape[-1:]))

        def element(indices: list) -> None:
            value = _reduced(b, t, indices) if t.reduction is not None else reader(*indices)
            b.store(buffer, indices, value)

        with b.parallel(product(outer), max(1, GRAIN // inner)) as p:
            place = unflatten(p, outer)
            if inner == 1:
                element(place)
            else:
                whole = inner // lanes
                if whole:
                    with b.serial(whole) as j, b.vector(lanes) as v:
                        element([*place[:-1], j * lanes + v])
                if inner % lanes:
                    with b.serial(inner % lanes) as v:
                        element([*place[:-1], whole * lanes + v])
    return b.stage()


IDENTITY = {
    "sum": lambda d: tirx.const(0, d),
    "prod": lambda d: tirx.const(1, d),
    "max": tirx.min_value,
    "min": tirx.max_value,
    "any": lambda d: tirx.const(False, "bool"),
    "all": lambda d: tirx.const(True, "bool"),
}
COMBINE = {
    "sum": lambda a, b: a + b,
    "prod": lambda a, b: a * b,
    "max": lambda a, b: tirx.Select(tirx.any(b > a, b != b), b, a),  # a NaN wins, as in numpy
    "min": lambda a, b: tirx.Select(tirx.any(b < a, b != b), b, a),
    "any": tirx.any,
    "all": tirx.all,
}


def _reduced(b: Builder, t: Tensor, indices: list) -> tirx.Expr:
    r: Reduction = t.reduction
    held = "uint8" if t.dtype == "bool" else t.dtype
    acc = b.local((1,), held)
    b.store(acc, 0, IDENTITY[r.kind](t.dtype))

    def run(loops: Sequence[Index], at: tuple) -> None:
        if loops:
            with b.serial(loops[0]) as k:
                run(loops[1:], (*at, k))
            return
        value = b.let(as_expr(r.body(tuple(indices), at), t.dtype))
        old = acc[0].astype("bool") if t.dtype == "bool" else acc[0]
        b.store(acc, 0, COMBINE[r.kind](old, value))

    run(r.extents, ())
    total = acc[0].astype("bool") if t.dtype == "bool" else acc[0]
    return total if r.finish is None else r.finish(total, *indices)
