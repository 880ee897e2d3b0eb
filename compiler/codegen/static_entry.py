"""The entry of a model on a microcontroller: `int32_t NAME_run(const NAME_inputs *, NAME_outputs *, void *arena)`.

Shapes are static and there is one thread: it calls every kernel in turn with addresses that are known now, or known
relative to the arena, the weights' symbol and the caller's tensors.
"""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.binding as llvm
import llvmlite.ir as ir

from compiler.program import Buffer, Program
from targets.target import Target

from .cache import cached
from .entry import I8, I32, PTR
from .lower import symbol


def static_entry_ir(program: Program, target: Target, entry: str) -> str:
    """The LLVM IR of `entry`, NAME_run; the weights are the symbol NAME_weights. Each step is exactly one call."""
    module = ir.Module(entry)
    module.triple = target.triple
    run = ir.Function(module, ir.FunctionType(I32, [PTR, PTR, PTR]), entry)
    weights = ir.GlobalVariable(module, ir.ArrayType(I8, 0), f"{entry.removesuffix('_run')}_weights")
    weights.global_constant, weights.linkage = True, "external"
    inputs, outputs, arena = run.args
    b = ir.IRBuilder(run.append_basic_block())
    count = len(program.inputs)

    def address(buffer: Buffer) -> ir.Value:
        root, at = buffer.root()
        if root.space == "io":
            mine, index = (inputs, root.index) if root.index < count else (outputs, root.index - count)
            base = b.load(b.gep(mine, [I32(index)], source_etype=PTR), typ=PTR)
        else:
            base = arena if buffer.space == "arena" else weights
            at = buffer.offset
            assert at >= 0, f"{buffer.name} has no place"
        return b.gep(base, [I32(at)], source_etype=I8) if at else base

    flash = _Flash(b, program)
    for number, step in enumerate(program.steps):
        flash.before(number, address)
        kernel = symbol(step.stage, target)
        function = module.globals.get(kernel)
        if function is None:
            arguments = [PTR] * len(step.stage.operands)
            function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), kernel)
        b.call(function, [address(buffer) for buffer in step.buffers])
        flash.after(number)
    b.ret(I32(0))
    return str(module)


class _Flash:
    """Calls of the driver in edgert_flash.h: the reads for a step start before the one ahead of it."""

    def __init__(self, b: ir.IRBuilder, program: Program) -> None:
        self.b, self.steps = b, program.steps
        if any(step.loads for step in program.steps):
            kinds = {"read": [I32, PTR, I32], "wait": []}
            self.read, self.wait = (
                ir.Function(b.module, ir.FunctionType(ir.VoidType(), kinds[name]), f"edgert_flash_{name}")
                for name in kinds
            )

    def before(self, number: int, address: Callable[[Buffer], ir.Value]) -> None:
        """Starts what the next step needs; what the first one needs is read and waited for first."""
        if number == 0:
            self.start(0, address)
            self.after(-1)
        self.start(number + 1, address)

    def start(self, number: int, address: Callable[[Buffer], ir.Value]) -> None:
        """Starts every read for a step."""
        for load in self.steps[number].loads if number < len(self.steps) else []:
            arguments = [I32(load.weight.offset), address(load.buffer), I32(load.weight.bytes)]
            self.b.call(self.read, arguments)

    def after(self, number: int) -> None:
        """Waits for what the next step needs."""
        if number + 1 < len(self.steps) and self.steps[number + 1].loads:
            self.b.call(self.wait, [])


def static_entry_object(program: Program, target: Target, entry: str) -> bytes:
    """The object file of `entry`."""
    text = static_entry_ir(program, target, entry)

    def make() -> bytes:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        module = llvm.parse_assembly(text)
        module.verify()
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=",".join(target.attrs), opt=2, reloc="static", codemodel="default",
            abiname=target.abi,
        )  # fmt: skip
        return machine.emit_object(module)

    return cached("entry", f"{target}\0{text}", make)
