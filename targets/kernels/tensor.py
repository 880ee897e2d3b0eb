"""Tensor expressions: what an operator computes, as a function from indices to a scalar TIR expression.

A light form of TVM's TE. A Tensor is a leaf (a graph value, held in a buffer), a map (each element from an expression
over other tensors) or a reduction. Reading one with `t(i, j)` while a Builder is active inlines maps and loads leaves,
so fusing is function composition. `to_te` turns a Tensor into TVM's own TE where its schedules are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from tvm import tirx
from tvm.sym import Analyzer

Scalar: TypeAlias = tirx.Expr  # one element's value as an expression
# a dimension or an index: a number known now, or an int64 expression over symbolic dims
Index: TypeAlias = int | tirx.Expr

_READERS: list[Callable[[Tensor, tuple], tirx.Expr]] = []
ANALYZER = Analyzer()  # knows the range of every symbolic dimension (compiler/frontend/dims.py tells it)


@dataclass(eq=False)
class Reduction:
    """Combines `body(out_indices, reduce_indices)` over `extents`. kind: sum, prod, max, min, any, all."""

    extents: tuple[Index, ...]
    kind: str
    body: Callable[[tuple, tuple], tirx.Expr]
    finish: Callable[..., tirx.Expr] | None = None  # applied to the combined value, with the output indices


@dataclass(eq=False)
class Tensor:
    """shape and dtype, and how its elements come about: `fn` (a map), `reduction`, or neither (a leaf)."""

    shape: tuple[Index, ...]
    dtype: str
    name: str = "t"
    fn: Callable[..., tirx.Expr] | None = None
    inputs: tuple[Tensor, ...] = ()
    reduction: Reduction | None = None
    materialised: bool = False  # written to a buffer by a stage of its own
    data: Callable[[], np.ndarray] | None = None  # a leaf known at compile time: reads it, perhaps from disk
    stored: str = ""  # a leaf's elements in memory, where they are of another type than `dtype`: float16
    meaning: object | None = None  # what a map does as a whole, for templates that have a faster way to do it

    def __call__(self, *indices: Index) -> tirx.Expr:
        """The element at `indices`, as the reader bound last gives it (see bind_reader)."""
        assert len(indices) == len(self.shape), f"{self.name}: {len(indices)} indices for shape {self.shape}"
        return _READERS[-1](self, indices)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)


def compute(
    shape: Sequence[Index], dtype: str, fn: Callable[..., tirx.Expr], inputs: Sequence[Tensor], name: str = "t"
) -> Tensor:
    """A map: element (i, j, ...) is `fn(i, j, ...)`, which reads `inputs` by calling them. dtype bool is TIR's."""
    return Tensor(tuple(simplify(s) for s in shape), dtype, name, fn, tuple(inputs))


def reduce(
    shape: Sequence[Index], dtype: str, extents: Sequence[Index], kind: str,
    body: Callable[[tuple, tuple], tirx.Expr], inputs: Sequence[Tensor],
    finish: Callable[..., tirx.Expr] | None = None, name: str = "r",
) -> Tensor:  # fmt: skip
    """A reduction over `extents`, accumulated in `dtype`. `finish(value, *indices)` post-processes the result."""
    reduction = Reduction(tuple(simplify(e) for e in extents), kind, body, finish)
    return Tensor(tuple(simplify(s) for s in shape), dtype, name, None, tuple(inputs), reduction)


def bind_reader(reader: Callable[[Tensor, tuple], tirx.Expr]) -> Callable[[], None]:
    """Makes `reader` answer `Tensor.__call__` until the returned function is called."""
    _READERS.append(reader)
    return lambda: _READERS.remove(reader)


def hoist(value: tirx.Expr) -> tirx.Expr | None:
    """`value` computed by a statement before the one being built, where the active reader can do that safely."""
    reader = getattr(_READERS[-1], "__self__", None) if _READERS else None
    return reader.hoist(value) if reader is not None and hasattr(reader, "hoist") else None


def intrinsic(dtype: str, name: str, *arguments: tirx.Expr) -> tirx.Expr:
    """LLVM's intrinsic `llvm.{name}`, or what stands for it where the kernel being built is not made by LLVM."""
    builder = getattr(_READERS[-1], "__self__", None) if _READERS else None
    if builder is not None and hasattr(builder, "intrinsic"):
        return builder.intrinsic(dtype, name, *arguments)
    return tirx.call_llvm_pure_intrin(dtype, f"llvm.{name}", *arguments)


def reassociates() -> bool:
    """Whether what compiles the kernel being built may take (a + b) - b for a, as makers of shaders do."""
    builder = getattr(_READERS[-1], "__self__", None) if _READERS else None
    return bool(getattr(builder, "reassociates", False))


def as_expr(value: Index | float | bool, dtype: str | None = None) -> tirx.Expr:
    """A TIR expression of `dtype` (default: int32 for a small int) for a Python number or an expression."""
    if isinstance(value, tirx.Expr):
        return value if dtype is None or str(value.ty.dtype) == dtype else value.astype(dtype)
    if dtype is None:
        if isinstance(value, bool):
            dtype = "bool"
        elif isinstance(value, float):
            dtype = "float32"
        else:
            dtype = "int32" if -(2**31) <= value < 2**31 else "int64"
    return tirx.const(value, dtype)


def simplify(value: Index) -> Index:
    """`value` simplified; a Python int where it is a constant."""
    if isinstance(value, int):
        return value
    if isinstance(value, tirx.IntImm):
        return int(value.value)
    if not isinstance(value, tirx.Expr):
        return int(value)
    value = ANALYZER.simplify(value)
    return int(value.value) if isinstance(value, tirx.IntImm) else value


def largest(value: Index) -> int:
    """An upper bound of `value` over the bounds of its variables."""
    return value if isinstance(value, int) else int(ANALYZER.const_int_bound(value).max_value)


def same_dim(a: Index, b: Index) -> bool:
    """Whether two dimensions are provably equal."""
    difference = simplify(a - b)
    return isinstance(difference, int) and difference == 0


def same_shape(a: Sequence[Index], b: Sequence[Index]) -> bool:
    """Whether two shapes are provably equal."""
    return len(a) == len(b) and all(same_dim(x, y) for x, y in zip(a, b, strict=True))


def same_size(a: Sequence[Index], b: Sequence[Index]) -> bool:
    """Whether two shapes provably have as many elements."""
    return same_dim(product(a), product(b))


def product(values: Sequence[Index]) -> Index:
    """The product of dimensions; 1 for none."""
    result: Index = 1
    for value in values:
        result = result * value
    return simplify(result)


def extent(value: Index, dims: Mapping[str, int]) -> int:
    """The number an index expression has for given symbolic dims. Raises KeyError for a dim not given."""
    if isinstance(value, int):
        return value
    analyzer = Analyzer()
    for var in tirx.analysis.undefined_vars(tirx.Evaluate(value), []):
        analyzer.bind(var, tirx.const(dims[var.name], str(var.ty.dtype)))
    result = analyzer.simplify(value)
    assert isinstance(result, tirx.IntImm), f"{value} is not known from {dims}"
    return int(result.value)
