"""Kernels whose result may take the place of an operand: which, and how they are made to.

A kernel qualifies that stores every element of its result once (Stage.once) and reads an operand's element only where,
afterwards and in the same iteration, it stores the result's element of the same number. Kernels promise the compiler
that their pointers do not alias, so both operands become one pointer: then loads and stores of one address keep their
order, and all other promises hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from tvm import tirx
from tvm.ir import Expr
from tvm.ir.expr import TensorLoad
from tvm_ffi import StructuralKey

from .stage import Stage, stored_dtype, structure
from .tensor import Index, as_expr, simplify

ADDRESS = "tirx.address_of"  # an operand whose address is taken may be touched anywhere


def may_overwrite(stage: Stage, read: int, written: int) -> bool:
    """Whether the result at operand `written` may lie where operand `read` does. Both of one type and size."""
    kinds = {(leaf.dtype, stored_dtype(leaf)) for leaf in (stage.operands[read], stage.operands[written])}
    if not stage.once or len(kinds) > 1:
        return False
    uses = _uses(structure(stage.func), len(stage.operands))
    loads, stores = uses.of(read), uses.of(written)
    if uses.opaque & {read, written} or any(use.stores for use in loads) or any(not use.stores for use in stores):
        return False
    return all(any(_covers(store, load) for store in stores) for load in loads)


def over(stage: Stage, read: int, written: int) -> Stage:
    """`stage` with operand `read` left out: it reads what it overwrites through the pointer of operand `written`."""
    operands = [leaf for i, leaf in enumerate(stage.operands) if i != read]
    return replace(stage, func=_over(stage.func, read, written), operands=operands, text=None)


@lru_cache(256)
def _over(func: tirx.PrimFunc, read: int, written: int) -> tirx.PrimFunc:
    params = list(func.params)
    gone, kept = params[read], params[written]
    statements = list(func.body.seq) if isinstance(func.body, tirx.SeqStmt) else [func.body]
    body = [
        tirx.DeclBuffer(s.buffer, data=kept) if isinstance(s, tirx.DeclBuffer) and s.data.same_as(gone) else s
        for s in statements
    ]
    return tirx.PrimFunc([p for p in params if not p.same_as(gone)], tirx.SeqStmt(body)).with_attrs(func.attrs)


def in_order(stage: Stage) -> Stage:
    """`stage` for operands that overlap as its `slide` has it: no promise about its pointers, and one thread."""
    grain = stage.tasks if isinstance(stage.tasks, int) else stage.grain
    return replace(stage, func=stage.func.without_attr("tirx.noalias"), grain=grain, text=None)


@dataclass
class _Use:
    """One load or store of an operand: the element's number, its place in the text, the loops around it."""

    element: Index
    at: int
    stores: bool
    loops: tuple[int, ...]


def _covers(store: _Use, load: _Use) -> bool:
    """Whether `store` is of the element that `load` reads, after it, and in as many iterations."""
    if store.at < load.at or store.loops != load.loops[: len(store.loops)]:
        return False
    gap = simplify(store.element - load.element)
    return isinstance(gap, int) and gap == 0


@lru_cache(4096)
def _uses(func: StructuralKey, operands: int) -> _Uses:
    """One for all kernels alike: a network's layers, and the bands of one that was split."""
    return _Uses(func.key, operands)


class _Uses:
    """Where a kernel touches its operands. opaque: those whose address goes elsewhere."""

    def __init__(self, func: tirx.PrimFunc, operands: int) -> None:
        self.found: list[tuple[int, _Use]] = []
        self.opaque: set[int] = set()
        self._count = 0
        self._buffers: list[tuple[tirx.Var, int]] = []
        self._params = list(func.params)[:operands]
        self._visit(func.body, ())

    def of(self, operand: int) -> list[_Use]:
        return [use for i, use in self.found if i == operand]

    def _operand(self, variable: object) -> int | None:
        return next((i for known, i in self._buffers if known.same_as(variable)), None)

    def _visit(self, node: object, loops: tuple[int, ...]) -> None:
        if isinstance(node, tirx.DeclBuffer):
            for i, pointer in enumerate(self._params):
                if node.data.same_as(pointer):
                    self._buffers.append((node.buffer, i))
            return
        if isinstance(node, tirx.BufferStore):
            self._visit(node.value, loops)
            for index in node.indices:
                self._visit(index, loops)
            self._touch(node.buffer, node.indices, True, loops)
            return
        if isinstance(node, TensorLoad):
            for index in node.indices:
                self._visit(index, loops)
            self._touch(node.source, node.indices, False, loops)
            return
        if isinstance(node, tirx.Var):
            operand = self._operand(node)
            if operand is None:
                operand = next((i for i, p in enumerate(self._params) if p.same_as(node)), None)
            if operand is not None:
                self.opaque.add(operand)
            return
        if isinstance(node, tirx.For | tirx.While):
            self._count += 1
            loops = (*loops, self._count)
        if isinstance(node, Expr) and getattr(getattr(node, "op", None), "name", "") == ADDRESS:
            loads = [child for child in children(node) if isinstance(child, TensorLoad)]
            self.opaque |= {i for i in (self._operand(load.source) for load in loads) if i is not None}
        for child in children(node):
            self._visit(child, loops)

    def _touch(self, buffer: tirx.Var, indices: list[Index], stores: bool, loops: tuple[int, ...]) -> None:
        operand = self._operand(buffer)
        if operand is None:
            return
        self._count += 1
        element: Index = as_expr(0, "int64")
        for index, extent in zip(indices, buffer.shape, strict=True):
            if isinstance(index, tirx.Ramp):
                self.opaque.add(operand)
                return
            element = element * as_expr(extent, "int64") + as_expr(index, "int64")
        self.found.append((operand, _Use(element, self._count, stores, loops)))


def children(node: object) -> Iterator[object]:
    """The statements and expressions directly within one."""
    for name in _fields(type(node)):  # type: ignore[arg-type]
        value = getattr(node, name)
        for child in value if hasattr(value, "__len__") and not isinstance(value, str) else [value]:
            if isinstance(child, tirx.Stmt | Expr):
                yield child


@cache
def _fields(kind: type) -> tuple[str, ...]:
    """What a node of this type holds, but for its place in a source and its type."""
    infos = (getattr(one, "__tvm_ffi_type_info__", None) for one in kind.__mro__)
    names = dict.fromkeys(field.name for info in infos for field in getattr(info, "fields", ()))
    return tuple(name for name in names if name not in ("span", "ty"))
