"""The inner loops of products for 64-bit Arm use the instructions that their target is there for."""

import re
from collections import Counter

import numpy as np
import pytest
import tvm

from compiler.codegen.lower import lower
from targets import get_target
from targets.kernels.registry import Call, stages_for
from targets.kernels.tensor import Tensor

ROWS, DEPTH, COLS = 64, 256, 128


def hot_block(name: str, op: str, left: str, right: str, sums: str, instruction: str) -> Counter[str]:
    """How often each instruction stands in the block that has most of `instruction`."""
    target = get_target(name)
    a, b = Tensor((ROWS, DEPTH), left, "a"), Tensor((DEPTH, COLS), right, "b")
    b.data = lambda: np.ones((DEPTH, COLS), right)
    out, result = Tensor((ROWS, COLS), sums, "acc"), Tensor((ROWS, COLS), sums, "result")
    stages = stages_for(Call(op, {}, [a, b, None], [out], out, [result], {}), target)
    assert stages is not None
    lowered = lower(stages[-1].func, "kernel", target)
    module = tvm.get_global_func("target.build.llvm")(lowered, tvm.target.Target(target.tvm()))
    blocks = re.split(r"^\.LBB\S+:.*$", module.inspect_source("asm"), flags=re.M)
    counts = [Counter(re.findall(r"^\s+([a-z][a-z0-9.]*)\s", block, flags=re.M)) for block in blocks]
    return max(counts, key=lambda count: count[instruction])


@pytest.mark.parametrize(
    ("target", "left", "instruction"),
    [("cortex-a76", "int8", "sdot"), ("cortex-x2", "uint8", "usdot"), ("cortex-a53", "uint8", "mla")],
)
def test_products_of_bytes(target: str, left: str, instruction: str) -> None:
    found = hot_block(target, "edgert.GemmInteger", left, "int8", "int32", instruction)
    assert found[instruction] >= 26 and not found["sub"], found
    # instructions for each that multiplies: 2.5 to 2.9 are seen with the loop's surroundings; the ideal is 1
    assert found.total() / found[instruction] < 3, found


def test_products_of_floats() -> None:
    found = hot_block("aarch64", "edgert.Gemm", "float32", "float32", "float32", "fmla")
    assert found["fmla"] >= 16 and not found["fmul"], found
