"""The entry function: calls every kernel at its planned addresses. Built with llvmlite, linked with TVM's kernels."""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.binding as llvm
import llvmlite.ir as ir
from tvm import tirx

from compiler.program import Buffer, Program, Step
from targets.gpu import Gpu
from targets.target import Target

from .cache import cached
from .lower import symbol

ENTRY = "edgert_run"
I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
PTR = ir.PointerType()
TASK = ir.FunctionType(ir.VoidType(), [PTR, I64, I64])
SPLIT = ir.FunctionType(ir.VoidType(), [PTR, PTR, I64, I64])
DONE = ir.FunctionType(ir.VoidType(), [PTR, I64])
# struct edgert_ctx of edgert/native/edgert.h, all members pointer-sized
ARENA, WEIGHTS, IO, DIMS, PARALLEL, MARK, _, BASES, STREAM, DEVICE = range(10)
LAUNCH = ir.FunctionType(I32, [PTR, I64, I64, PTR])
STREAMED = ir.FunctionType(I32, [PTR, I64, PTR, I64, I64])


def entry_ir(program: Program, target: Target, entry: str = ENTRY) -> str:
    """The LLVM IR of the function `entry` and, for each step, of one that finds its pointers and calls its kernel."""
    module = ir.Module("entry")
    module.triple = target.triple
    run = ir.Function(module, ir.FunctionType(I32, [PTR]), entry)
    ctx = run.args[0]
    b = ir.IRBuilder(run.append_basic_block())
    dims = _Dims(b, ctx, program)
    mark = _member(b, ctx, MARK, DONE.as_pointer())
    profiling = b.icmp_unsigned("!=", mark, ir.Constant(PTR, None))
    on_device = isinstance(target, Gpu)
    arguments = b.alloca(I64, max(1, *(len(step.stage.dims) for step in program.steps), 1)) if on_device else None
    for i, step in enumerate(program.steps):
        tasks = dims.value(step.stage.tasks)
        if on_device:
            # work items and dimensions of a kernel of the device's; -1: what follows runs here, on memory as it stands
            for k, var in enumerate(step.stage.dims if step.stage.workgroup else []):
                b.store(dims.value(var), b.gep(arguments, [I64(k)], source_etype=I64))
            launched = tasks if step.stage.workgroup else I64(-1)
            failed = b.call(_member(b, ctx, DEVICE, LAUNCH.as_pointer()), [ctx, I64(i), launched, arguments])
            with b.if_then(b.icmp_unsigned("!=", failed, I32(0)), likely=False):
                b.ret(I32(i + 1))
            if step.stage.workgroup:
                continue
        task = _task(module, program, step, i, target)
        if any(buffer.base >= 0 for buffer in step.buffers):
            _streamed(b, ctx, i, task, tasks, step)
        elif isinstance(step.stage.tasks, int) and step.stage.tasks <= max(1, step.stage.grain):
            b.call(task, [ctx, I64(0), tasks])
        else:
            b.call(_member(b, ctx, PARALLEL, SPLIT.as_pointer()), [ctx, task, tasks, I64(step.stage.grain)])
        with b.if_then(profiling, likely=False):
            b.call(mark, [ctx, I64(i)])
    for i, expr in enumerate(program.derived):
        b.store(dims.value(expr), dims.slot(len(program.dims) + i))
    b.ret(I32(0))
    return str(module)


def _streamed(b: ir.IRBuilder, ctx: ir.Value, number: int, task: ir.Function, tasks: ir.Value, step: Step) -> None:
    """A step with weights that may have to be read first: through ctx.stream where that is set."""
    grain = I64(step.stage.grain)
    stream = _member(b, ctx, STREAM, STREAMED.as_pointer())
    with b.if_else(b.icmp_unsigned("!=", stream, ir.Constant(PTR, None)), likely=False) as (then, otherwise):
        with then:
            failed = b.call(stream, [ctx, I64(number), task, tasks, grain])
            with b.if_then(b.icmp_unsigned("!=", failed, I32(0)), likely=False):
                b.ret(I32(number + 1))
        with otherwise:
            b.call(_member(b, ctx, PARALLEL, SPLIT.as_pointer()), [ctx, task, tasks, grain])


def entry_object(program: Program, target: Target, entry: str = ENTRY) -> bytes:
    """The object file of the entry function."""
    text = entry_ir(program, target, entry)

    def make() -> bytes:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        module = llvm.parse_assembly(text)
        module.verify()
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, opt=2, reloc="pic", abiname=target.abi
        )
        return machine.emit_object(module)

    return cached("entry", f"{target}\0{text}", make)


def _task(module: ir.Module, program: Program, step: Step, number: int, target: Target) -> ir.Function:
    stage = step.stage
    name = symbol(stage, target)
    kernel = module.globals.get(name)
    if kernel is None:
        arguments = [PTR] * len(stage.operands) + [I64] * (len(stage.dims) + 2)
        kernel = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    task = ir.Function(module, TASK, f"task_{number}")
    task.linkage = "internal"
    ctx, begin, end = task.args
    b = ir.IRBuilder(task.append_basic_block())
    dims = _Dims(b, ctx, program)
    members: dict[int, ir.Value] = {}
    pointers = [_address(b, ctx, buffer, members) for buffer in step.buffers]
    b.call(kernel, [*pointers, *(dims.value(v) for v in stage.dims), begin, end])
    b.ret_void()
    return task


def _member(b: ir.IRBuilder, ctx: ir.Value, index: int, kind: ir.Type = PTR) -> ir.Value:
    return b.load(b.gep(ctx, [I64(index)], source_etype=PTR), typ=kind)


def _address(b: ir.IRBuilder, ctx: ir.Value, buffer: Buffer, members: dict[int, ir.Value]) -> ir.Value:
    """members: of ctx that were loaded before, in blocks that lead here."""

    def member(index: int) -> ir.Value:
        if index not in members:
            members[index] = _member(b, ctx, index)
        return members[index]

    root, at = buffer.root()
    if root.space == "io":
        address = b.load(b.gep(member(IO), [I64(root.index)], source_etype=PTR), typ=PTR)
        return b.gep(address, [I64(at)], source_etype=I8) if at else address
    if buffer.space == "dims":
        return b.gep(member(DIMS), [I64(buffer.index)], source_etype=I64)
    base = member(ARENA if buffer.space == "arena" else WEIGHTS)
    if buffer.base >= 0:
        bases = member(BASES)
        own = b.gep(bases, [I64(buffer.base)], source_etype=PTR)
        here = b.alloca(PTR)
        b.store(base, here)
        with b.if_then(b.icmp_unsigned("!=", bases, ir.Constant(PTR, None)), likely=False):
            b.store(b.load(own, typ=PTR), here)
        base = b.load(here, typ=PTR)
    assert buffer.offset >= 0, f"{buffer.name} has no place"
    return b.gep(base, [I64(buffer.offset)], source_etype=I8)


class _Dims:
    """Values of symbolic dimensions and of expressions over them, as LLVM int64."""

    def __init__(self, b: ir.IRBuilder, ctx: ir.Value, program: Program) -> None:
        self.b, self.ctx, self.program = b, ctx, program

    def slot(self, index: int) -> ir.Value:
        return self.b.gep(_member(self.b, self.ctx, DIMS), [I64(index)], source_etype=I64)

    def value(self, e: tirx.Expr | int) -> ir.Value:
        b = self.b
        if isinstance(e, int | tirx.IntImm):
            return I64(int(e) if isinstance(e, int) else int(e.value))
        if isinstance(e, tirx.Cast):
            return self.value(e.value)
        if isinstance(e, tirx.Var):
            for i, var in enumerate(self.program.dims):
                if var.same_as(e):
                    return b.load(self.slot(i), typ=I64)
            raise KeyError(f"dimension {e.name} has no slot")
        if isinstance(e, tirx.Select):
            return b.select(self.condition(e.condition), self.value(e.true_value), self.value(e.false_value))
        x, y = self.value(e.a), self.value(e.b)
        simple: dict[type, Callable] = {
            tirx.Add: b.add,
            tirx.Sub: b.sub,
            tirx.Mul: b.mul,
            tirx.Div: b.sdiv,
            tirx.Mod: b.srem,
        }
        if type(e) in simple:
            return simple[type(e)](x, y)
        if isinstance(e, tirx.Min | tirx.Max):
            return b.select(b.icmp_signed("<" if isinstance(e, tirx.Min) else ">", x, y), x, y)
        if isinstance(e, tirx.FloorDiv | tirx.FloorMod):
            # floor differs from truncation where the remainder's sign is not the divisor's
            quotient, rest = b.sdiv(x, y), b.srem(x, y)
            off = b.and_(b.icmp_signed("!=", rest, I64(0)), b.icmp_signed("<", b.xor(rest, y), I64(0)))
            if isinstance(e, tirx.FloorMod):
                return b.select(off, b.add(rest, y), rest)
            return b.select(off, b.sub(quotient, I64(1)), quotient)
        raise TypeError(f"dimension expression {e} of {type(e).__name__}")

    def condition(self, e: tirx.Expr) -> ir.Value:
        signs = {tirx.LT: "<", tirx.LE: "<=", tirx.GT: ">", tirx.GE: ">=", tirx.EQ: "==", tirx.NE: "!="}
        return self.b.icmp_signed(signs[type(e)], self.value(e.a), self.value(e.b))
