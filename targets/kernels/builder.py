"""Builds one kernel as a TIR function, statement by statement. The only file that makes TIR statements.

A kernel is `void k(pointers..., int64 dims..., int64 begin, int64 end)`: it runs iterations [begin, end) of its
outermost (parallel) loop. Loops are context managers:

    b = Builder("relu")
    x, y = b.arg(X), b.arg(Y)
    with b.parallel(rows) as i, b.vector(16) as j:
        b.store(y, (i, j), tirx.max(x[i, j], 0.0))
    stage = b.stage()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Self

from tvm import tirx
from tvm.ir import PointerType, PrimType
from tvm.tirx import ForKind

from targets.dtypes import item_size

from .reading import Reading
from .stage import Const, Leaf, Stage, stored_dtype
from .storage import expression_dtype, from_bits, storage_dtype, to_bits
from .tensor import Index, Tensor, as_expr, bind_reader, simplify

MAX_STACK = 16 << 10  # bytes of local buffers a kernel may keep on the stack; more is a Temp in the arena


class Builder:
    """One kernel under construction; while it is active, the reader through which `Tensor.__call__` inlines or
    loads.
    """

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self._blocks: list[list[tirx.Stmt]] = [[]]
        self._operands: dict[int, tuple[Leaf, tirx.Var, tirx.Var]] = {}
        self._bound: dict[int, Callable[..., tirx.Expr]] = {}
        self._memo: dict[tuple, tirx.Expr] = {}
        self._point: dict[int, tuple[tirx.Expr, Index]] = {}
        self._lane: tuple[tirx.Expr, int] | None = None  # the vector loop we are in
        self._guarded = False  # whether this element has read anything that was not surely in range
        self._begin, self._end = tirx.Var("begin", "int64"), tirx.Var("end", "int64")
        self._tasks: Index | None = None
        self._grain = 1
        self._stack_bytes = 0
        self.reading = Reading()

    # ---- operands -------------------------------------------------------------------------------------------------
    def arg(self, leaf: Leaf, shape: Sequence[Index] | None = None) -> tirx.Var:
        """The buffer parameter that holds `leaf` (a graph value, a Temp or a Const), if wanted seen with another
        shape.
        """
        key = id(leaf)
        if key not in self._operands:
            dtype = storage_dtype(stored_dtype(leaf))
            name = f"p{len(self._operands)}"
            pointer = tirx.Var(name, PointerType(PrimType(dtype)))
            buffer = tirx.decl_buffer(_shape(leaf.shape), dtype, name + "_b")
            self._operands[key] = (leaf, pointer, buffer)
        buffer = self._operands[key][2]
        if shape is None:
            return buffer
        view = tirx.decl_buffer(_shape(shape), buffer.dtype, "view")
        self._blocks[0].append(tirx.DeclBuffer(view, data=self._operands[key][1]))
        return view

    def constants(self) -> list[Const]:
        """The operands so far that are made at compile time."""
        return [leaf for leaf, _, _ in self._operands.values() if isinstance(leaf, Const)]

    def bind(self, tensor: Tensor, reader: Callable[..., tirx.Expr]) -> None:
        """While this kernel is built, reading `tensor` at indices gives `reader(*indices)` (an accumulator, say)."""
        self._bound[id(tensor)] = reader

    def read(self, tensor: Tensor, indices: tuple) -> tirx.Expr:
        """The value of `tensor` at `indices`: bound, loaded from its buffer, or computed in place."""
        if id(tensor) in self._bound:
            return self._bound[id(tensor)](*indices)
        if not self._in_range(tensor, indices):
            self._guarded = True
        if tensor.fn is None or tensor.materialised:
            value = self.arg(tensor)[tuple(as_expr(i) for i in indices)] if indices else self.arg(tensor)[0]
            if tensor.dtype == "bfloat16":
                return from_bits(value)
            if tensor.stored:
                return value.astype(tensor.dtype)
            return value.astype("bool") if tensor.dtype == "bool" else value
        if not self._in_range(tensor, indices):
            return tensor.fn(*indices)
        key = (id(tensor), *(_constant(i) if _constant(i) is not None else id(i) for i in indices))
        if key not in self._memo:
            self._memo[key] = self.keep(as_expr(tensor.fn(*indices), expression_dtype(tensor.dtype)))
        return self._memo[key]

    def share(self, indices: Sequence[tirx.Expr], shape: Sequence[Index]) -> None:
        """From here to the end of this block a map read at these indices (which lie within `shape`) is computed once.

        Call it where each element is computed. Only reads that are surely in range are hoisted, so a guard stays one.
        """
        self._memo, self._guarded = {}, False
        self._point = {id(i): (i, extent) for i, extent in zip(indices, shape, strict=True)}

    def hoist(self, value: tirx.Expr) -> tirx.Expr | None:
        """`value` kept, where that is safe: None when it may read what a guard around it would not."""
        return self.keep(value) if self._point and not self._guarded else None

    def keep(self, value: tirx.Expr) -> tirx.Expr:
        """`value` in a local, one element a lane of the vector loop we are in.

        A Bind would be substituted back by TVM's simplifier, which makes code of exponential size, and is not seen by
        its vectoriser where that goes lane by lane.
        """
        if isinstance(value, tirx.Var | tirx.IntImm | tirx.FloatImm):
            return value
        if str(value.ty.dtype) == "bfloat16":
            return self.keep(value.astype("float32")).astype("bfloat16")
        held = "int32" if str(value.ty.dtype) == "bool" else str(value.ty.dtype)
        lane, lanes = self._lane if self._lane is not None else (tirx.const(0, "int32"), 1)
        buffer = tirx.decl_buffer([lanes], held, "kept", scope="local")
        self._blocks[-1 if self._lane is None else -2].append(tirx.AllocBuffer(buffer))
        self.store(buffer, lane, value)
        kept = buffer[lane]
        return tirx.NE(kept, tirx.const(0, "int32")) if str(value.ty.dtype) == "bool" else kept

    def _in_range(self, tensor: Tensor, indices: tuple) -> bool:
        if not self._point:
            return False
        for index, extent in zip(indices, tensor.shape, strict=True):
            known = self._point.get(id(index))
            if known is None and _constant(index) != 0:
                return False
            if known is not None and known[1] is not extent:
                gap = simplify(known[1] - extent)
                if not (isinstance(gap, int) and gap == 0):
                    return False
        return True

    # ---- statements -----------------------------------------------------------------------------------------------
    def emit(self, statement: tirx.Stmt) -> None:
        """Appends a statement to the block we are in."""
        self._blocks[-1].append(statement)

    def store(self, buffer: tirx.Var, indices: Sequence[Index] | Index, value: tirx.Expr | float) -> None:
        """buffer[indices] = value, converted to the buffer's type."""
        if not isinstance(indices, tuple | list):
            indices = (indices,)
        if isinstance(value, tirx.Expr) and str(value.ty.dtype) == "bfloat16" and str(buffer.dtype) == "uint16":
            value = to_bits(value)
        value = as_expr(value, buffer.dtype)
        if value.ty.dtype != buffer.dtype:
            value = value.astype(buffer.dtype)
        self.emit(tirx.BufferStore(buffer, value, [as_expr(i) for i in (indices or (0,))]))

    def let(self, value: tirx.Expr, name: str = "v") -> tirx.Expr:
        """Binds `value` to a name, so that using it twice costs once."""
        if isinstance(value, tirx.Var | tirx.IntImm | tirx.FloatImm):
            return value
        if str(value.ty.dtype) == "bool":  # TVM's analyser stumbles over a bound vector of bools; LLVM folds the detour
            return tirx.NE(self.let(value.astype("int32"), name), tirx.const(0, "int32"))
        if str(value.ty.dtype) == "bfloat16":  # legalisation widens what is bound but not the name; the detour is exact
            return self.let(value.astype("float32"), name).astype("bfloat16")
        if any(leaf.dtype == "bfloat16" for leaf, _, _ in self._operands.values()):
            return self.keep(value)  # TVM's legalisation of bfloat16 passes over what is bound
        if self._lane is not None and "if_then_else" in str(value):
            return self.keep(value)  # TVM's vectoriser takes a guarded read lane by lane, which no Bind survives
        var = tirx.Var(name, str(value.ty.dtype))
        self.emit(tirx.Bind(var, value))
        return var

    def local(self, shape: Sequence[int], dtype: str) -> tirx.Var:
        """A small buffer of this kernel's own: registers when every index into it is a constant, else stack."""
        self._stack_bytes += math.prod(int(size) for size in shape) * item_size(dtype)
        if self._stack_bytes > MAX_STACK:
            raise ValueError(f"{self.kernel}: {self._stack_bytes} bytes of locals; use a Temp ({dtype})")
        buffer = tirx.decl_buffer(list(shape), dtype, "loc", scope="local")
        self.emit(tirx.AllocBuffer(buffer))
        return buffer

    # ---- control flow ---------------------------------------------------------------------------------------------
    @contextmanager
    def _block(self) -> Iterator[list[tirx.Stmt]]:
        self._blocks.append([])
        try:
            yield self._blocks[-1]
        finally:
            self._blocks.pop()
            self._memo = {}  # what was kept in that block is gone

    @contextmanager
    def loop(self, extent: Index, kind: int = ForKind.SERIAL, name: str = "i", start: Index = 0) -> Iterator[tirx.Expr]:
        """A loop of `extent` iterations from `start`. An extent of one is no loop at all."""
        extent = simplify(extent)
        if isinstance(extent, int) and extent == 1:
            yield as_expr(start)
            return
        var = tirx.Var(name, _index_dtype(extent, start))
        with self._block() as body:
            yield var
        dtype = str(var.ty.dtype)
        self.emit(tirx.For(var, as_expr(start, dtype), as_expr(extent, dtype), kind, _seq(body)))

    def serial(self, extent: Index, name: str = "i", start: Index = 0) -> AbstractContextManager[tirx.Expr]:
        """A plain loop."""
        return self.loop(extent, ForKind.SERIAL, name, start)

    def unroll(self, extent: int, name: str = "u") -> AbstractContextManager[tirx.Expr]:
        """A loop whose body is written out `extent` times."""
        return self.loop(extent, ForKind.UNROLLED, name)

    @contextmanager
    def vector(self, extent: int, name: str = "v") -> Iterator[tirx.Expr]:
        """A loop of one vector: its body, in scalar notation, runs for all `extent` lanes at once."""
        with self.loop(extent, ForKind.VECTORIZED, name) as lane:
            self._lane = (lane, extent) if extent != 1 else None
            yield lane
            self._lane = None

    @contextmanager
    def parallel(self, extent: Index, grain: int = 1, name: str = "p") -> Iterator[tirx.Expr]:
        """The outermost loop, which the runtime splits among threads in pieces of at least `grain`. Once a kernel."""
        assert self._tasks is None, "one parallel loop a kernel"
        self._tasks, self._grain = simplify(extent), grain
        var = tirx.Var(name, "int64")
        with self._block() as body:
            yield var
        self.emit(tirx.For(var, self._begin, self._end - self._begin, ForKind.SERIAL, _seq(body)))

    @contextmanager
    def when(self, condition: tirx.Expr) -> Iterator[None]:
        """Runs what is emitted inside where `condition` holds."""
        with self._block() as body:
            yield
        self.emit(tirx.IfThenElse(condition, _seq(body), None))

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """The else branch of the `when` just before."""
        test = self._blocks[-1].pop()
        with self._block() as body:
            yield
        self.emit(tirx.IfThenElse(test.condition, test.then_case, _seq(body)))

    @contextmanager
    def loop_while(self, condition: tirx.Expr) -> Iterator[None]:
        """Repeats what is emitted inside as long as `condition` holds, which is tested before each round."""
        with self._block() as body:
            yield
        self.emit(tirx.While(condition, _seq(body)))

    # ---- result ---------------------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        self._unbind = bind_reader(self.read)
        return self

    def __exit__(self, *exc: object) -> None:
        self._unbind()

    def stage(self, once: bool = False) -> Stage:
        """The finished kernel. once: it stores every element of its result once, in no two iterations."""
        body = self._blocks[0]
        operands = [leaf for leaf, _, _ in self._operands.values()]
        pointers = [pointer for _, pointer, _ in self._operands.values()]
        declared = [tirx.DeclBuffer(buffer, data=pointer) for _, pointer, buffer in self._operands.values()]
        statement = _seq(declared + body)
        known = set(pointers) | {self._begin, self._end}
        free = [v for v in tirx.analysis.undefined_vars(statement, pointers) if v not in known]
        for var in tirx.analysis.undefined_vars(tirx.Evaluate(as_expr(1 if self._tasks is None else self._tasks)), []):
            if not any(var.same_as(f) for f in free):
                free.append(var)
        dims = sorted(free, key=lambda v: v.name)
        func = tirx.PrimFunc([*pointers, *dims, self._begin, self._end], statement)
        func = func.with_attr("tirx.noalias", True)
        tasks = 1 if self._tasks is None else self._tasks
        return Stage(self.kernel, func, operands, dims, tasks, self._grain, once=once, reading=self.reading)


def _constant(index: Index) -> int | None:
    if isinstance(index, int):
        return index
    return int(index.value) if isinstance(index, tirx.IntImm) else None


def _seq(body: list[tirx.Stmt]) -> tirx.Stmt:
    if not body:
        return tirx.Evaluate(tirx.const(0, "int32"))
    return body[0] if len(body) == 1 else tirx.SeqStmt(body)


def _shape(shape: Sequence[Index]) -> list:
    return [as_expr(s) for s in shape] or [as_expr(1)]


def _index_dtype(*indices: Index) -> str:
    return "int64" if any(not isinstance(i, int) and str(i.ty.dtype) == "int64" for i in indices) else "int32"
