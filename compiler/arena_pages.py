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
    """Pairs of n and bytes in whole pages: with the first open dimension at most n and the others at their largest, no
    more of the arena is used. n doubles up to the dimension's bound; none where no dimension is open.
    """
    if not program.input_dims:
        return []
    name = program.dims[0].name
    low, high = program.bounds[name]
    sizes = [high]
    while sizes[0] > max(low, 1):
        sizes.insert(0, max(low, 1, sizes[0] // 2))
    known: dict[str, int] = {}
    buffers = list(program.buffers("arena"))
    whole = [_elements(b.shape, program.bounds, known) for b in buffers]
    pairs = []
    for n in sizes:
        some: dict[str, int] = {}
        counts = [_elements(b.shape, {**program.bounds, name: (low, n)}, some) for b in buffers]
        spans = [_span(*each) for each in zip(buffers, counts, whole, strict=True)]
        pairs.append([n, _touched(spans)])
    return pairs


def _elements(shape: tuple[Index, ...], bounds: Mapping[str, tuple[int, int]], known: dict[str, int]) -> int:
    """The most elements that a tensor has within bounds."""
    text = str(shape)
    if text not in known:
        count, analyzer = prod(shape), Analyzer()
        for var in () if isinstance(count, int) else tirx.analysis.undefined_vars(tirx.Evaluate(count), []):
            least, most = (tirx.const(bound, str(var.ty.dtype)) for bound in bounds[var.name])
            analyzer.bind(var, Range(least, most + 1))
        known[text] = count if isinstance(count, int) else int(analyzer.const_int_bound(count).max_value)
    return known[text]


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
