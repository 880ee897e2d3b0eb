"""What an expression reads: for each load, how far its address moves when an axis advances by one.

The generic nest decides from this which axes merge into one and which axis vectorises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm import tirx
from tvm.sym import detect_linear_equation

from .storage import expression_dtype
from .tensor import Index, Tensor, as_expr, bind_reader, simplify


@dataclass(eq=False)
class Load:
    """One load. strides[a]: elements per step of axis a; None where the address is not affine in it.

    base: the address where all axes are zero; None unless it is affine in all of them.
    """

    leaf: Tensor
    strides: list[Index | None]
    base: Index | None = None


@dataclass(eq=False)
class Access:
    """loads, and the axes whose index is used otherwise too (in a condition, or as a number)."""

    extents: list[Index]
    loads: list[Load] = field(default_factory=list)
    direct: set[int] = field(default_factory=set)
    copies: bool = False  # the expression is one load and nothing else

    def mergeable(self, axis: int) -> bool:
        """Whether axes `axis` and `axis + 1` may be walked as one: every address is the same affine function of it."""
        if {axis, axis + 1} & self.direct:
            return False
        for load in self.loads:
            outer, inner = load.strides[axis], load.strides[axis + 1]
            if outer is None or inner is None or not is_zero(outer - inner * self.extents[axis + 1]):
                return False
        return True

    def contiguous(self, axis: int) -> bool:
        """Whether every load stays or moves by one element along `axis`, and at least one moves."""
        strides = [load.strides[axis] for load in self.loads]
        return all(isinstance(s, int) and s in (0, 1) for s in strides) and 1 in strides


def is_zero(value: Index) -> bool:
    """Whether an index expression is provably zero."""
    value = simplify(value)
    return isinstance(value, int) and value == 0


def analyse(fn: Callable[..., tirx.Expr], extents: Sequence[Index]) -> Access:
    """How `fn(*indices)` reads its leaves, for indices that run over `extents`."""
    probe = _Probe(len(extents))
    unbind = bind_reader(probe.read)
    try:
        value = as_expr(fn(*probe.axes))
    finally:
        unbind()
    probe.note_direct(value)
    access = Access(list(extents), direct=probe.direct)
    access.loads = [Load(leaf, *probe.strides(leaf, indices)) for leaf, indices in probe.loads]
    access.copies = len(probe.loads) == 1 and isinstance(value, tirx.Var) and probe.maps_are_copies
    return access


class _Probe:
    """Reads tensors without a kernel: each read gives a variable that remembers which axes it depends on."""

    def __init__(self, rank: int) -> None:
        self.axes = [tirx.Var(f"axis.{a}", "int64") for a in range(rank)]
        self.loads: list[tuple[Tensor, tuple]] = []
        self.direct: set[int] = set()
        self.maps_are_copies = True
        self._depends: dict[str, set[int]] = {f"axis.{a}": {a} for a in range(rank)}
        self._memo: dict[tuple, tuple] = {}

    def read(self, tensor: Tensor, indices: tuple) -> tirx.Expr:
        key = (id(tensor), *(i if isinstance(i, int) else id(i) for i in indices))
        if key not in self._memo:
            if tensor.fn is None or tensor.materialised:
                self.loads.append((tensor, indices))
                depends = set().union(*(self._axes_of(i) for i in indices)) if indices else set()
            else:
                value = as_expr(tensor.fn(*indices))
                self.maps_are_copies &= isinstance(value, tirx.Var)
                self.note_direct(value)
                depends = self._axes_of(value)
            var = tirx.Var(f"value.{len(self._memo)}", expression_dtype(tensor.dtype))
            self._depends[var.name] = depends
            self._memo[key] = (var, indices)  # the indices are kept: an id is only good while its object lives
        return self._memo[key][0]

    def note_direct(self, value: tirx.Expr) -> None:
        self.direct |= {int(name[5:]) for name in free(value) if name.startswith("axis.")}

    def _axes_of(self, value: Index) -> set[int]:
        return set().union(*(self._depends.get(name, set()) for name in free(value)))

    def strides(self, leaf: Tensor, indices: tuple) -> tuple[list[Index | None], Index | None]:
        """Elements per step of each axis and the base, for the row-major address of leaf[indices]."""
        address, size = as_expr(0, "int64"), as_expr(1, "int64")
        for index, extent in zip(reversed(indices), reversed(leaf.shape), strict=True):
            address = address + as_expr(index, "int64") * size
            size = size * as_expr(extent, "int64")
        address = as_expr(simplify(address), "int64")
        names = free(address)
        gathered = set().union(*(self._depends[name] for name in names if name.startswith("value.")))
        result: list[Index | None] = []
        for a, axis in enumerate(self.axes):
            stride: Index | None = 0
            if a in gathered:
                stride = None
            elif axis.name in names:
                parts = detect_linear_equation(address, [axis])
                stride = simplify(parts[0]) if len(parts) else None
                if stride is not None and any(n.startswith(("axis.", "value.")) for n in free(stride)):
                    stride = None
            result.append(stride)
        if gathered or any(stride is None for stride in result):
            return result, None
        for axis, stride in zip(self.axes, result, strict=True):
            address = address - axis * as_expr(stride, "int64")
        base = simplify(address)
        return result, None if any(name.startswith("axis.") for name in free(base)) else base


def free(value: Index) -> set[str]:
    """The names of the variables in an expression."""
    if not isinstance(value, tirx.Expr):
        return set()
    return {v.name for v in tirx.analysis.undefined_vars(tirx.Evaluate(value), [])}
