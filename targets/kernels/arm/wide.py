"""Four rows times four columns of signed bytes for 64-bit Arm without dot products.

Of a row and a column 16 neighbours are multiplied at once: two products in each of eight sums of 16 bits, which are
added in pairs to sums of 32 bits; four of those are one element of the product, and are added up at the end. The way
of gemmlowp's and XNNPACK's kernels for such processors.
"""

from __future__ import annotations

from collections.abc import Iterator

FOUR = 4  # rows, and columns
SUMS, LEFT, RIGHT, PRODUCTS = 16, 0, 4, 8  # registers from which on these are held
BATCH = 8  # products at once


class Wide:
    """The instructions; `short`: two products fit into 16 bits, which of -128 by -128 they do not."""

    def __init__(self, rows: int, short: bool) -> None:
        self.rows, self.short = rows, short
        self.pairs = [(i, j) for i in range(rows) for j in range(FOUR)]

    def begin(self) -> Iterator[str]:
        """No sums yet."""
        yield from (f"movi v{SUMS + FOUR * i + j}.2d, #0" for i, j in self.pairs)

    def step(self) -> Iterator[str]:
        """Sixteen neighbours. Rows lie in eights, of which these are one half."""
        yield f"ldp q{LEFT}, q{LEFT + 1}, [$1], #32"
        yield f"ldp q{LEFT + 2}, q{LEFT + 3}, [$1], #96"
        yield f"ldp q{RIGHT}, q{RIGHT + 1}, [$2], #32"
        yield f"ldp q{RIGHT + 2}, q{RIGHT + 3}, [$2], #32"
        for start in range(0, len(self.pairs), BATCH):
            batch = self.pairs[start : start + BATCH]
            yield from self._multiply("smull", "8b", batch)
            if not self.short:
                yield from self._add(batch)
            yield from self._multiply("smlal2" if self.short else "smull2", "16b", batch)
            yield from self._add(batch)

    def stores(self, first: bool) -> Iterator[str]:
        """Sums added up and to memory, `first` or to what is there."""
        for i in range(self.rows):
            a, b, c, d = (SUMS + FOUR * i + j for j in range(FOUR))
            yield f"addp v{a}.4s, v{a}.4s, v{b}.4s"
            yield f"addp v{c}.4s, v{c}.4s, v{d}.4s"
            yield f"addp v{a}.4s, v{a}.4s, v{c}.4s"
            if not first:
                yield f"ldr q0, [$0, #{16 * i}]"
                yield f"add v{a}.4s, v{a}.4s, v0.4s"
            yield f"str q{a}, [$0, #{16 * i}]"

    def _multiply(self, name: str, bytes_: str, batch: list[tuple[int, int]]) -> Iterator[str]:
        for n, (i, j) in enumerate(batch):
            yield f"{name} v{PRODUCTS + n}.8h, v{LEFT + i}.{bytes_}, v{RIGHT + j}.{bytes_}"

    def _add(self, batch: list[tuple[int, int]]) -> Iterator[str]:
        for n, (i, j) in enumerate(batch):
            yield f"sadalp v{SUMS + FOUR * i + j}.4s, v{PRODUCTS + n}.8h"
