"""Inner loops for 64-bit Arm: up to 8 rows x a panel of columns in 24 vector registers, over packed rows and weights.

Compilers load the left side's elements one by one and spill tiles of this size, so the loops are written out: the left
side comes packed, eight rows side by side for every step, and is multiplied by lane (fmla, sdot), as rows of a matrix
(smmla) or row by column (smull: wide.py). Registers 8 to 31 hold sums, 0 to 7 what is being multiplied. The layouts and
tiles are those of Arm's and Google's published kernels (Arm Compute Library's "interleaved" GEMMs, gemmlowp, XNNPACK);
the text is made here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from targets.dtypes import item_size
from targets.target import Target

from .loads import memory, pair, quad
from .wide import FOUR, Wide

ROWS = 8  # of a tile
TURN = 4  # steps written out in a turn of the loop
SUMS = 24  # registers


@dataclass(frozen=True)
class Micro:
    """One way to multiply. A step is what an instruction sums up at once: `depth` elements of a row.

    unit: what holds one row's part of a step once packed; together: so many units of one row are loaded at once, and
    as many rows turned against them. products: what one instruction multiplies.
    """

    name: str
    instruction: str
    needs: str  # the feature a target must have
    left: str  # the left side's type
    weights: str
    sums: str
    unit: str
    depth: int
    together: int
    width: int  # columns of a panel
    products: int
    most_steps: int = 0  # sums of so many steps are added up in float32, where instructions sum in less; 0: any
    moved: bool = False  # whether the left side is multiplied 128 smaller than it is

    @property
    def matrix(self) -> bool:
        """Whether registers hold 2 x 2 sums."""
        return self.instruction.endswith("mmla")

    @property
    def parts(self) -> int:
        """How many of `unit` one row's part of a step takes."""
        return self.depth * item_size(self.weights) // item_size(self.unit)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's part of a step."""
        return self.parts * item_size(self.unit)

    def steps(self, depth: int) -> int:
        """Steps of a sum of `depth` products."""
        return -(-depth // self.depth)

    def narrow(self) -> Micro:
        """The same with fewer columns, where it has many."""
        return self if self.width < 12 else replace(self, width=self.width // 3 * 2)


FMLA = Micro("fmla", "fmla", "asimd", "float32", "float32", "float32", "float32", 1, 4, 12, 4)
SDOT = Micro("sdot", "sdot", "asimddp", "int8", "int8", "int32", "int32", 4, 4, 12, 16)
SMMLA = Micro("smmla", "smmla", "i8mm", "int8", "int8", "int32", "int64", 8, 2, 12, 32)
USMMLA = Micro("usmmla", "usmmla", "i8mm", "uint8", "int8", "int32", "int64", 8, 2, 12, 32)
# sums of float16 stay short: the error of n additions grows with the square root of n
HALF = Micro("fmla8h", "fmla", "asimdhp", "float32", "float16", "float32", "float16", 1, 4, 24, 8, most_steps=64)
# two products in 16 bits: 2 * 128 * 127 fits, but not 2 * 128 * 128
SMULL = Micro("smull", "smull", "asimd", "int8", "int8", "int32", "int64", 16, 1, 4, 8)
SMULL_ALL = replace(SMULL, name="smull_all")  # for weights of -128
WAYS = (SMMLA, USMMLA, SDOT, SMULL, HALF, FMLA)  # the first that fits is taken


def micro_for(
    target: Target, left: str, depth: int, cols: int, weights: Callable[[], np.ndarray] | None = None
) -> Micro | None:
    """The way for a left side of this type and so many weights, its panel as wide as suits the columns.

    weights: all of them, which are looked at where the way depends on their range.
    """
    if not target.triple.startswith("aarch64"):
        return None
    ways = [way for way in WAYS if way.needs in target.features and (way is not HALF or target.halves(depth * cols))]
    way = next((way for way in ways if way.left == left), None)
    if way is None and left == "uint8":
        way = next((way for way in ways if way.left == "int8"), None)
        way = way and replace(way, left=left, moved=True)
    if way is None:
        return None
    if way.name == SMULL.name and (weights is None or weights().min(initial=0) == -128):
        way = replace(SMULL_ALL, left=way.left, moved=way.moved)
    return min((way, way.narrow()), key=lambda w: -(-cols // w.width) * (w.width * SUMS + w.width))


def function(way: Micro, rows: int, first: bool, target: Target) -> tuple[str, str]:
    """Name and LLVM IR of a function (sums, rows, weights, steps): rows x width sums, set where `first`, else added to.

    sums: [8][width] of way.sums; rows: [steps][8] units; weights: [steps][width][depth]. The name holds a digest of the
    text, so that kernels which call it are told apart by their own text.
    """
    clobbered = ",".join(f"~{{v{i}}}" for i in range(32))
    calls = []
    for number, (text, sums, left) in enumerate(_parts(way, rows, first)):
        text = text.replace("\n", r"\0A")
        # LLVM takes the text for one instruction and would write loops around it out: hence noduplicate
        calls.append(f"""  %sums{number} = getelementptr i8, ptr %sums, i64 {sums}
  %left{number} = getelementptr i8, ptr %left, i64 {left}
  %unused{number} = call {{i64, i64, i64, i64, i64}} asm sideeffect "{text}",
    "=&r,=&r,=&r,=&r,=&r,0,1,2,3,4,{clobbered},~{{cc}},~{{memory}}"
    (ptr %sums{number}, ptr %left{number}, ptr %weights, i64 %turns, i64 %rest) noduplicate""")
    body = "\n".join(calls)
    ir = f"""(ptr %sums, ptr %left, ptr %weights, i64 %steps) "target-cpu"="{target.cpu}" {{
  %turns = lshr i64 %steps, {TURN.bit_length() - 1}
  %rest = and i64 %steps, {TURN - 1}
{body}
  ret void
}}"""
    digest = hashlib.sha256(ir.encode()).hexdigest()[:8]
    name = f"arm_{way.name}_{rows}x{way.width}_{'first' if first else 'more'}_{digest}"
    return name, f"define internal void @{name}{ir}"


def _parts(way: Micro, rows: int, first: bool) -> Iterator[tuple[str, int, int]]:
    """Loops one after the other, each with the bytes where its sums and its rows begin."""
    if way.instruction != "smull":
        kind = _Matrix(way, rows) if way.matrix else _Half(way, rows) if way.name == HALF.name else _Lanes(way, rows)
        begin = [f"movi v{r}.2d, #0" for r in kind.registers()] if first or way.most_steps else [*kind.loads()]
        yield _loop(begin, kind.turn(), kind.step(), kind.stores(first)), 0, 0
        return
    for start in range(0, rows, FOUR):
        wide = Wide(min(FOUR, rows - start), way.name == SMULL.name)
        step = [*wide.step()]
        text = _loop(wide.begin(), step * TURN, step, wide.stores(first))
        yield text, start * way.width * item_size(way.sums), start * way.row_bytes


def _loop(begin: Iterable[str], turn: Iterable[str], step: Iterable[str], end: Iterable[str]) -> str:
    turns = [*turn, "subs $3, $3, #1", "b.ne 1b"]
    rest = [*step, "subs $4, $4, #1", "b.ne 3b"]
    return "\n".join([*begin, "cbz $3, 2f", "1:", *turns, "2:", "cbz $4, 4f", "3:", *rest, "4:", *end])


class _Lanes:
    """Words of eight rows in two registers, each lane multiplied with vectors of weights."""

    lanes, suffix = 4, "4s"

    def __init__(self, way: Micro, rows: int) -> None:
        self.way, self.rows, self.vectors = way, rows, way.width // self.lanes
        self.kinds = ("16b", "4b") if way.instruction == "sdot" else (self.suffix, self.suffix[-1])

    def sum(self, i: int, j: int) -> int:
        """The register of row i and vector j."""
        return 8 + i * self.vectors + j

    def registers(self) -> list[int]:
        """Those that hold sums."""
        return [self.sum(i, j) for i in range(self.rows) for j in range(self.vectors)]

    def loads(self) -> Iterator[str]:
        """Sums from memory, whose rows lie end to end."""
        return memory("ldp", "ldr", self.registers())

    def stores(self, first: bool) -> Iterator[str]:
        """Sums to memory."""
        return memory("stp", "str", self.registers())

    def multiply(self, left: int, right: int, vector: int) -> Iterator[str]:
        """All rows, `left` on, times one vector of weights."""
        wide, narrow = self.kinds
        for i in range(self.rows):
            lane = f"v{left + i // self.lanes}.{narrow}[{i % self.lanes}]"
            yield f"{self.way.instruction} v{self.sum(i, vector)}.{self.suffix}, v{right}.{wide}, {lane}"

    def turn(self) -> Iterator[str]:
        """Four steps. Rows of the next one are loaded while this one is multiplied, and pairs of weights ahead."""
        count, registers = TURN * self.vectors, ROWS // self.lanes
        every = 2 // registers  # steps that a pair of registers holds the rows of
        yield pair(0, "$1")
        yield pair(4, "$2")
        yield pair(6, "$2")
        for n in range(count):
            step, vector = divmod(n, self.vectors)
            following = step // every + 1
            if vector == 0 and step % every == 0 and following * every < TURN:
                yield pair(following % 2 * 2, "$1")
            left = step // every % 2 * 2 + step % every
            yield from self.multiply(left, 4 + n % 4, vector)
            if n % 2 and n + 3 < count:
                yield pair(4 + (n - 1) % 4, "$2")

    def step(self) -> Iterator[str]:
        """One step."""
        yield pair(0, "$1")
        yield pair(4, "$2")
        if self.vectors % 2:
            yield "ldr q6, [$2], #16"
        for j in range(self.vectors):
            yield from self.multiply(0, 4 + j, j)


class _Half(_Lanes):
    """As words, with float16; sums go to memory as float32."""

    lanes, suffix = 8, "8h"

    def step(self) -> Iterator[str]:
        """One step, whose rows fill one register only."""
        yield from ("ldr q0, [$1], #16" if text.startswith("ldp q0") else text for text in super().step())

    def stores(self, first: bool) -> Iterator[str]:
        """Sums widened, and added to what is in memory."""
        for place, r in enumerate(self.registers()):
            yield f"fcvtl v0.4s, v{r}.4h"
            yield f"fcvtl2 v1.4s, v{r}.8h"
            if not first:
                yield f"ldp q2, q3, [$0, #{place * 32}]"
                yield from (f"fadd v{i}.4s, v{i}.4s, v{i + 2}.4s" for i in (0, 1))
            yield f"stp q0, q1, [$0, #{place * 32}]"


class _Matrix:
    """Two rows a register, times two columns a register."""

    def __init__(self, way: Micro, rows: int) -> None:
        self.way, self.pairs, self.across = way, -(-rows // 2), way.width // 2

    def sum(self, i: int, j: int) -> int:
        """The register of rows 2i, 2i + 1 and columns 2j, 2j + 1."""
        return 8 + i * self.across + j

    def registers(self) -> list[int]:
        """Those that hold sums."""
        return [self.sum(i, j) for i in range(self.pairs) for j in range(self.across)]

    def loads(self) -> Iterator[str]:
        """Rows of sums from memory, turned into 2 x 2 blocks."""
        yield from self._turned(load=True)

    def stores(self, first: bool) -> Iterator[str]:
        """Blocks turned into rows."""
        yield from self._turned(load=False)

    def _turned(self, load: bool) -> Iterator[str]:
        for i in range(self.pairs):
            for j in range(0, self.across, 2):
                a, b = self.sum(i, j), self.sum(i, j + 1)
                places = [(2 * i + r) * self.way.width * 4 + j * 8 for r in (0, 1)]
                if load:
                    yield from (f"ldr q{r}, [$0, #{place}]" for r, place in enumerate(places))
                    yield f"trn1 v{a}.2d, v0.2d, v1.2d"
                    yield f"trn2 v{b}.2d, v0.2d, v1.2d"
                else:
                    yield f"trn1 v0.2d, v{a}.2d, v{b}.2d"
                    yield f"trn2 v1.2d, v{a}.2d, v{b}.2d"
                    yield from (f"str q{r}, [$0, #{place}]" for r, place in enumerate(places))

    def multiply(self, right: int, across: int) -> Iterator[str]:
        """All pairs of rows times a pair of columns."""
        for i in range(self.pairs):
            yield f"{self.way.instruction} v{self.sum(i, across)}.4s, v{i}.16b, v{right}.16b"

    def turn(self) -> Iterator[str]:
        """Four steps."""
        for n in range(TURN * self.across):
            if n % self.across == 0:
                yield quad(0, 4, "$1")
            if n % 4 == 0:
                yield quad(4, 4, "$2")
            yield from self.multiply(4 + n % 4, n % self.across)

    def step(self) -> Iterator[str]:
        """One step."""
        yield quad(0, 4, "$1")
        for j in range(self.across):
            if j % 4 == 0:
                yield quad(4, min(4, self.across - j), "$2")
            yield from self.multiply(4 + j % 4, j)
