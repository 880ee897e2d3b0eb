"""A kernel's own memory that begins at a cache line, which TVM's stack buffers (16 bytes) do not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx

from targets.dtypes import item_size

from .builder import Builder

LINE = 64  # bytes of a cache line: a vector of as many that crosses one costs two accesses


def aligned_local(b: Builder, shape: Sequence[int], dtype: str) -> tirx.Var:
    """A local buffer at a multiple of 64 bytes: memory, never registers."""
    items = LINE // item_size(dtype)
    room = b.local((math.prod(shape) + items - 1,), dtype)
    inner = tirx.address_of(room[items - 1])
    start = tirx.Var("aligned", inner.ty)
    b.emit(tirx.Bind(start, tirx.call_llvm_pure_intrin(inner.ty, "llvm.ptrmask", inner, tirx.const(-LINE, "int64"))))
    view = tirx.decl_buffer(list(shape), dtype, "aligned")
    b.emit(tirx.DeclBuffer(view, data=start))
    return view


def vector_local(b: Builder, shape: tuple[int, ...], dtype: str) -> tirx.Var:
    """A local buffer of whole cache lines that starts at a cache line: held as vectors, which LLVM aligns so."""
    lanes = LINE // item_size(dtype)
    held = tirx.decl_buffer([math.prod(shape) // lanes], f"{dtype}x{lanes}", "held", scope="local")
    view = tirx.decl_buffer(list(shape), dtype, "held", scope="local")
    b.emit(tirx.AllocBuffer(held))
    b.emit(tirx.DeclBuffer(view, data=held.data))
    return view
