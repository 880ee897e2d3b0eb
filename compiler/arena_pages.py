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
    shapes = {text: b.shape for text, b in zip(names, buffers, strict=True)}  # few are different
    whole = {text: _most(prod(shape), program.bounds) for text, shape in shapes.items()}

    def touched(given: dict[str, tuple[int, int]]) -> int:
        bounds = {**program.bounds, **given}
        some = {text: _most(prod(shape), bounds) for text, shape in shapes.items()}
        used = _used(program, bounds)
        return _touched([_span(b, some[t], whole[t]) for b, t in zip(buffers, names, strict=True) if id(b) in used])

    found = []
    for n in _sizes(*program.bounds[first], 2):
        of_first = {first: (program.bounds[first][0], n)}
        if not others:
            found.append([n, touched(of_first)])
            continue
        low, high = program.bounds[others[0]]
        found += [[n, m, touched({**of_first, others[0]: (low, m)})] for m in _sizes(low, high, 8)]
    return found


def _sizes(low: int, high: int, by: int) -> list[int]:
    """Up to `high` by that factor."""
    sizes = [high]
    while sizes[0] > max(low, 1):
        sizes.insert(0, max(low, 1, sizes[0] // by))
    return sizes


def _used(program: Program, bounds: Mapping[str, tuple[int, int]]) -> set[int]:
    """The ids of buffers of steps that have anything to do: some are for few rows, others for many."""
    tasks = {str(step.stage.tasks): step.stage.tasks for step in program.steps}
    idle = {text for text, count in tasks.items() if _most(count, bounds) <= 0}
    steps = [step for step in program.steps if str(step.stage.tasks) not in idle]
    return {id(b) for step in steps for b in (*step.buffers, *(load.weight for load in step.loads))}


def _most(count: Index, bounds: Mapping[str, tuple[int, int]]) -> int:
    """The most that a number of elements or tasks is within bounds."""
    analyzer = Analyzer()
    if isinstance(count, int):
        return count
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
