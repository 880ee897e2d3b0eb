"""Instructions in the hot loops of products on 64-bit Arm, from the object code: `python -m benchmarks.arm_loops`.

The hot loop is the innermost one with most multiplying instructions; everything between its first instruction and its
branch back counts, loads and the loop's own included. Ideal is a loop that does nothing but multiply.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np

from benchmarks.readme import markdown, update
from compiler.codegen.lower import compile_object
from targets import get_target
from targets.kernels.registry import Call, stages_for
from targets.kernels.tensor import Tensor

ROWS, DEPTH, COLS = 64, 256, 96


@dataclass(frozen=True)
class Case:
    """A product [64, 256] x [256, 96] on a target: operand types, and the instruction that should do it."""

    target: str
    kind: str
    left: str
    instruction: str  # as disassembled, with the arrangement of its result; or several that do it together
    products: float  # multiply-accumulates of one instruction
    right: str = "int8"
    op: str = "edgert.GemmInteger"


def _floats(target: str, kind: str, instruction: str, products: float) -> Case:
    return Case(target, kind, "float32", instruction, products, "float32", "edgert.Gemm")


CASES = (
    _floats("cortex-a53", "float32", "fmla.4s", 4),
    _floats("cortex-a76", "float32", "fmla.4s", 4),
    _floats("cortex-a76-fp16", "float32 as float16", "fmla.8h", 8),
    Case("cortex-a53", "int8", "int8", "smull.8h smlal2.8h sadalp.4s", 16 / 3),
    Case("cortex-a76", "int8", "int8", "sdot.4s", 16),
    Case("cortex-x2", "int8", "int8", "smmla.4s", 32),
    Case("cortex-x2", "uint8 by int8", "uint8", "usmmla.4s", 32),
)


@dataclass(frozen=True)
class Loop:
    """A loop of an object: its instructions by name and arrangement, as in sdot.4s."""

    counts: Counter[str]

    def per_product(self, case: Case) -> float:
        """Instructions for each multiply-accumulate."""
        return self.counts.total() / self.macs(case)

    def multiplying(self, case: Case) -> int:
        """How many instructions multiply and add."""
        return sum(self.counts[name] for name in case.instruction.split())

    def macs(self, case: Case) -> int:
        """Multiply-accumulates of one turn."""
        return round(self.multiplying(case) * case.products)

    def ratio(self, case: Case) -> float:
        """Instructions for each one that multiplies: 1 is ideal."""
        return self.counts.total() / self.multiplying(case)


def hot_loop(case: Case) -> Loop:
    """The hot loop of the case's kernel."""
    loops = innermost_loops(object_code(case))
    assert loops, f"{case.target}: no loop"
    return max(loops, key=lambda loop: loop.multiplying(case))


def object_code(case: Case) -> bytes:
    """The object file of the case's kernel."""
    target = get_target(case.target)
    a, w = Tensor((ROWS, DEPTH), case.left, "a"), Tensor((DEPTH, COLS), case.right, "w")
    w.data = lambda: np.ones((DEPTH, COLS), case.right)
    sums = "float32" if case.left == "float32" else "int32"
    out, result = Tensor((ROWS, COLS), sums, "acc"), Tensor((ROWS, COLS), sums, "result")
    stages = stages_for(Call(case.op, {}, [a, w, None], [out], out, [result], {}), target)
    assert stages is not None, f"{case}: no template takes it"
    return compile_object(stages[-1], target)


def innermost_loops(data: bytes) -> list[Loop]:
    """The loops of an AArch64 object's first section of code that have no other loop inside."""
    import capstone
    from elftools.elf.elffile import ELFFile

    code = next(s for s in ELFFile(io.BytesIO(data)).iter_sections() if s.name.startswith(".text") and s.data_size)
    lines = list(capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM).disasm(code.data(), 0))
    assert len(lines) * 4 == code.data_size, "not all could be disassembled"
    backward = [
        (to, line.address)
        for line in lines
        if line.mnemonic.startswith(("b.", "cb", "tbz", "tbnz"))
        and (to := int(line.op_str.rpartition("#")[2], 16)) <= line.address
    ]
    inner = [
        (first, last)
        for first, last in backward
        if not any(first <= f and t <= last and (f, t) != (first, last) for f, t in backward)
    ]
    return [Loop(Counter(_name(x.mnemonic, x.op_str) for x in lines[f // 4 : t // 4 + 1])) for f, t in inner]


def _name(mnemonic: str, operands: str) -> str:
    """`sdot.4s`: with the arrangement of a vector's first operand."""
    first = operands.split(",")[0]
    return f"{mnemonic}.{first.partition('.')[2]}" if first.startswith("v") and "." in first else mnemonic


def table(cases: Sequence[Case] = CASES) -> str:
    """One row a case."""
    rows = []
    for case in cases:
        loop = hot_loop(case)
        names = case.instruction.split()
        rest = ", ".join(f"{n} {name}" for name, n in loop.counts.most_common() if name not in names)
        count = ", ".join(f"{loop.counts[name]} {name}" for name in names)
        costs = [f"{loop.per_product(case):.4f}", f"{1 / case.products:.4f}", f"{loop.ratio(case):.3f}"]
        rows.append([f"`{case.target}`", case.kind, count, rest, loop.macs(case), *costs])
    return markdown(
        ["target", "product of", "multiplying", "and", "MACs a turn", "instructions a MAC", "ideal", "ratio"], rows
    )


@click.command()
@click.option("--readme", is_flag=True, help="Write the table into README.md.")
def main(readme: bool) -> None:
    """Print the table."""
    print(text := table())
    if readme:
        update("arm-loops", text)


if __name__ == "__main__":
    main()
