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
    buffers = list(program.buffers("arena"))
    names = [str(b.shape) for b in buffers]
    shapes = {text: b.shape for text, b in zip(names, buffers, strict=True)}  # few are different
    whole = {text: _elements(shape, program.bounds) for text, shape in shapes.items()}
    pairs = []
    for n in sizes:
        some = {text: _elements(shape, {**program.bounds, name: (low, n)}) for text, shape in shapes.items()}
        spans = [_span(b, some[text], whole[text]) for b, text in zip(buffers, names, strict=True)]
        pairs.append([n, _touched(spans)])
    return pairs


def _elements(shape: tuple[Index, ...], bounds: Mapping[str, tuple[int, int]]) -> int:
    """The most elements that a tensor has within bounds."""
    count, analyzer = prod(shape), Analyzer()
    if isinstance(count, int):
        return count
    for var in tirx.analysis.undefined_vars(tirx.Evaluate(count), []):
        if var.name in bounds:
            least, most = (tirx.const(bound, str(var.ty.dtype)) for bound in bounds[var.name])
            analyzer.bind(var, Range(least, most + 1))
    return int(analyzer.const_int_bound(count).max_value)


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
