"""Builds one kernel of work items as a TIR function: `void k(pointers..., int64 dims...)`.

b = Grid("relu", target)
x, y = b.arg(X), b.arg(Y)
with b, b.items(count) as i:
    b.store(y, i, tirx.max(x[i], 0.0))
stage = b.stage()
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import tvm
from tvm import tirx

from targets.gpu import Gpu

from ..builder import Builder, _index_dtype, _seq
from ..stage import Stage
from ..tensor import Index, as_expr, simplify

NAMES = {"webgpu": {"rint": "round", "fabs": "abs"}}  # of functions that another language calls otherwise


class Grid(Builder):
    """A Builder whose outermost loop is the grid of work items."""

    def __init__(self, kernel: str, target: Gpu) -> None:
        super().__init__(kernel)
        self.workgroup = target.workgroup
        self.pointers = target.api == "opencl"  # whether kernels may load vectors from anywhere
        self.reassociates = target.api != "opencl"
        self.names = NAMES.get(target.api, {})

    @contextmanager
    def items(self, extent: Index, name: str = "item") -> Iterator[tirx.Expr]:
        """`extent` work items, each of which runs the body once with its own number. Once a kernel."""
        extent = simplify(extent)
        with self.groups(_ceil_div(extent, self.workgroup)) as (block, lane):
            place = self.let(block * self.workgroup + lane, name)
            with self._block() as body:
                yield place
            self.emit(tirx.IfThenElse(place < as_expr(extent, str(place.ty.dtype)), _seq(body), None))

    @contextmanager
    def groups(self, extent: Index) -> Iterator[tuple[tirx.Expr, tirx.Expr]]:
        """`extent` groups of work items: gives the group's number and the item's within it. Once a kernel."""
        assert self._tasks is None, "one grid a kernel"
        extent = simplify(extent)
        self._tasks = extent * self.workgroup
        dtype = _index_dtype(extent)
        block, lane = tirx.Var("block", dtype), tirx.Var("lane", dtype)
        with self._block() as body:
            yield block, lane
        inner = _launched(lane, "threadIdx.x", self.workgroup, _seq(body))
        self.emit(_launched(block, "blockIdx.x", extent, inner))

    def load(self, buffer: tirx.Var, *indices: Index) -> tirx.Expr:
        """An element, as float32 where the buffer holds halves."""
        value = buffer[tuple(as_expr(i) for i in indices)]
        return value.astype("float32") if str(buffer.dtype) == "float16" else value

    def shared(self, count: int, dtype: str) -> tirx.Var:
        """`count` elements that all work items of a group see. Outside of loops and conditions."""
        buffer = tirx.decl_buffer([count], dtype, "of_group", scope="shared")  # `shared` is reserved in WGSL
        self.emit(tirx.AllocBuffer(buffer))
        return buffer

    def barrier(self) -> None:
        """Every item of the group waits for the others; what they wrote to shared memory is there then."""
        self.emit(tirx.Evaluate(tirx.call_intrin("int32", "tirx.tvm_storage_sync", "shared")))

    def intrinsic(self, dtype: str, name: str, *arguments: tirx.Expr) -> tirx.Expr:
        """What OpenCL C calls as LLVM does; a fence is not needed where products are not fused with sums."""
        if name == "arithmetic.fence":
            return arguments[0]
        return tirx.call_pure_extern(dtype, self.names.get(name, name), *arguments)

    def stage(self, once: bool = False) -> Stage:
        """The finished kernel."""
        made = super().stage(once)
        *params, _, _ = made.func.params  # begin and end of a loop
        func = tirx.PrimFunc(params, made.func.body).with_attr("tirx.noalias", True)
        return Stage(made.kernel, func, made.operands, made.dims, made.tasks, workgroup=self.workgroup, once=once)


def place_of(position: tirx.Expr, shape: Sequence[Index]) -> list[tirx.Expr]:
    """The indices of row-major `position` in `shape`, in its own type: 64-bit divisions are slow on most devices."""
    dtype, indices = str(position.ty.dtype), []
    for extent in reversed(shape[1:]):
        size = as_expr(extent, dtype)
        indices.append(tirx.truncmod(position, size))
        position = tirx.truncdiv(position, size)
    return [position, *reversed(indices)] if shape else []


def _ceil_div(extent: Index, by: int) -> Index:
    return simplify((extent + (by - 1)) // by)


def _launched(var: tirx.Var, tag: str, extent: Index, body: tirx.Stmt) -> tirx.Stmt:
    dtype = str(var.ty.dtype)
    count = as_expr(extent, dtype)
    axis = tirx.IterVar(tvm.ir.Range(tirx.const(0, dtype), count), var, tirx.IterVar.ThreadIndex, tag)
    return tirx.AttrStmt(axis, "thread_extent", count, body)
