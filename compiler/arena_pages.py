"""How much of the arena is touched when fewer tokens or rows go through a model than could: what a budget of memory has
to hold, as pages that nobody writes take none.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from tvm import tirx
from tvm.ir import Range
from tvm.sym import Analyzer

from compiler.program import Buffer, Program
from targets.kernels.tensor import Index

PAGE = 4096
MANY, FEW = 16, 8  # of the first dimension; of the second
_known: dict[tuple[str, tuple[tuple[str, tuple[int, int]], ...]], int] = {}  # programs of a model are much alike


def arena_pages(program: Program) -> list[list[int]]:
    """[n, bytes in whole pages]: with the first open dimension at most n and the others at their largest, no more of
    the arena is used; [n, m, bytes] where there are more, of which the second is at most m: rows of a language model
    whose results are wanted, which take much. They grow up to their bounds; none where no dimension is open.
    """
    if not program.input_dims:
        return []
    first, *others = (dim.name for dim in program.dims[: program.input_dims])
    buffers = list(program.buffers("arena"))
    names = [str(b.shape) for b in buffers]
    shapes = {text: prod(b.shape) for text, b in zip(names, buffers, strict=True)}  # few are different
    whole = {text: _most(text, size, program.bounds) for text, size in shapes.items()}
    counts = [str(step.stage.tasks) for step in program.steps]
    tasks = {text: step.stage.tasks for text, step in zip(counts, program.steps, strict=True)}

    def touched(given: dict[str, tuple[int, int]]) -> int:
        bounds = {**program.bounds, **given}
        some = {text: _most(text, size, bounds) for text, size in shapes.items()}
        busy = {text for text, count in tasks.items() if _most(text, count, bounds) > 0}  # others have nothing to do
        steps = [step for text, step in zip(counts, program.steps, strict=True) if text in busy]
        used = {id(b) for step in steps for b in (*step.buffers, *(load.weight for load in step.loads))}
        return _touched([_span(b, some[t], whole[t]) for b, t in zip(buffers, names, strict=True) if id(b) in used])

    found = []
    sizes = _sizes(*program.bounds[first], 2)
    for n in sorted({*sizes, *(n - 1 for n in sizes if n > MANY)}):  # where kernels for many rows begin, others end
        of_first = {first: (program.bounds[first][0], n)}
        if not others:
            found.append([n, touched(of_first)])
            continue
        low, high = program.bounds[others[0]]
        few = [m for m in _sizes(low, high, FEW) if m >= min(FEW, high)]
        found += [[n, m, touched({**of_first, others[0]: (low, m)})] for m in few]
    return found


def _sizes(low: int, high: int, by: int) -> list[int]:
    """Up to `high` by that factor."""
    sizes = [high]
    while sizes[0] > max(low, 1):
        sizes.insert(0, max(low, 1, sizes[0] // by))
    return sizes


def _most(text: str, count: Index, bounds: Mapping[str, tuple[int, int]]) -> int:
    """The most that a number of elements or tasks is within bounds. text: what tells counts apart."""
    if isinstance(count, int):
        return count
    key = (text, tuple(sorted(bounds.items())))
    if key not in _known:
        _known[key] = _greatest(count, bounds)
    return _known[key]


def _greatest(count: Index, bounds: Mapping[str, tuple[int, int]]) -> int:
    analyzer = Analyzer()
    for var in tirx.analysis.undefined_vars(tirx.Evaluate(count), []):
        if var.name in bounds:
            least, most = (tirx.const(bound, str(var.ty.dtype)) for bound in bounds[var.name])
            analyzer.bind(var, Range(least, most + 1))
    return int(analyzer.const_int_bound(analyzer.simplify(count)).max_value)


def _span(buffer: Buffer, count: int, whole: int) -> tuple[int, int]:
    """First and last page of so many of a buffer's elements, which lie densely from its begin on."""
    size = -(-buffer.bytes * min(count, whole) // max(whole, 1))
    return buffer.offset // PAGE, -(-(buffer.offset + size) // PAGE)


def _touched(spans: list[tuple[int, int]]) -> int:
    end = count = 0
    for first, last in sorted(spans):
        count += max(0, last - max(first, end))
        end = max(end, last)
    return PAGE * count
