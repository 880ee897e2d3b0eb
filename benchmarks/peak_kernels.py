"""Loops of nothing but multiply-adds in registers, built with llvmlite: one for each unit that multiplies.

Each loop has more independent chains than the unit is deep and touches no memory, so what it reaches is the ceiling for
any kernel. Each also computes something known, so that a test can tell that nothing was optimised away.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm
import llvmlite.ir as ir

from targets import get_target
from targets.target import Target

UNROLL = 4
I8, I32, I64, F32, VOID = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.VoidType()
# A tile of 16 rows of 64 bytes: six chains of sums, and one tile each for the left and the right side.
TILE_ROWS, TILE_BYTES, TILE_CHAINS = 16, 64, 6
ARCH_REQ_XCOMP_PERM, XTILEDATA, SYS_ARCH_PRCTL = 0x1023, 18, 158  # Linux asks programs to ask for AMX's state


@dataclass(frozen=True)
class Kernel:
    """A compiled loop: `call(iterations)`, what it should give, and operations (a multiply-add counts two) a turn."""

    engine: object  # keeps the code alive
    call: Callable[[int], float]
    expected: Callable[[int], float]
    operations: int


Step = Callable[[ir.IRBuilder, ir.Value], ir.Value]


@cache
def kernel(unit: str) -> Kernel:
    """The loop for `unit`, one of `units()`."""
    return KERNELS[unit](get_target("host"))


def units() -> list[str]:
    """What this machine multiplies with: float32, its way for bytes, and its matrix unit if it has one."""
    target = get_target("host")
    return [unit for unit in ("float32", target.dot, target.tiles) if unit in KERNELS]


def _float32(target: Target) -> Kernel:
    lanes = target.lanes("float32")
    vector = ir.VectorType(F32, lanes)

    def step(module: ir.Module, builder: ir.IRBuilder, zero: ir.Value) -> Step:
        fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32")
        small = _broadcast(builder, builder.bitcast(zero, F32), lanes)
        factor = builder.fadd(small, ir.Constant(vector, [1.0] * lanes))
        return lambda builder, value: builder.call(fma, [value, factor, small])  # x * 1 + 0

    return _chains(target, vector, step, 2 * lanes, 0)


def _vpdpbusd(target: Target) -> Kernel:
    lanes = target.lanes("int32")
    vector = ir.VectorType(I32, lanes)

    def step(module: ir.Module, builder: ir.IRBuilder, zero: ir.Value) -> Step:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
        dot = ir.Function(module, ir.FunctionType(vector, [vector] * 3), name)
        ones = _broadcast(builder, builder.add(zero, ir.Constant(I32, 0x01010101)), lanes)
        return lambda builder, value: builder.call(dot, [value, ones, ones])  # x + 1*1 + 1*1 + 1*1 + 1*1

    return _chains(target, vector, step, 2 * 4 * lanes, 4)


def _pmaddwd(target: Target) -> Kernel:
    lanes = target.lanes("int32")
    vector, halves = ir.VectorType(I32, lanes), ir.VectorType(ir.IntType(16), 2 * lanes)

    def step(module: ir.Module, builder: ir.IRBuilder, zero: ir.Value) -> Step:
        name = "llvm.x86.avx2.pmadd.wd" if lanes == 8 else "llvm.x86.avx512.pmaddw.d.512"
        dot = ir.Function(module, ir.FunctionType(vector, [halves] * 2), name)
        small = _broadcast(builder, zero, lanes)
        one = builder.bitcast(builder.add(small, ir.Constant(vector, [1] * lanes)), halves)
        # x * 1 + 0 * 0, then + 0: two instructions for each register of sums, as in a kernel
        return lambda builder, value: builder.add(builder.call(dot, [builder.bitcast(value, halves), one]), small)

    return _chains(target, vector, step, 2 * 2 * lanes, 0)


def _chains(
    target: Target,
    vector: ir.VectorType,
    make: Callable[[ir.Module, ir.IRBuilder, ir.Value], Step],
    operations: int,
    grows: int,
) -> Kernel:
    """The loop that keeps all but four registers busy; a step adds `grows` to each lane and counts `operations`.

    `make` gets a zero that the optimiser cannot know, and gives the step.
    """
    chains, lanes = target.registers - 4, vector.count
    module = ir.Module("peak")
    function = ir.Function(module, ir.FunctionType(vector.element, [I64]), "peak")
    entry, loop, done = (function.append_basic_block(name) for name in ("entry", "loop", "done"))
    builder = ir.IRBuilder(entry)
    step = make(module, builder, builder.trunc(builder.lshr(function.args[0], ir.Constant(I64, 40)), I32))
    builder.branch(loop)
    builder = ir.IRBuilder(loop)
    index = builder.phi(I64)
    sums = [builder.phi(vector) for _ in range(chains)]
    current = list(sums)
    for _ in range(UNROLL):
        current = [step(builder, value) for value in current]
    following = builder.add(index, ir.Constant(I64, 1))
    builder.cbranch(builder.icmp_signed("<", following, function.args[0]), loop, done)
    index.add_incoming(ir.Constant(I64, 0), entry)
    index.add_incoming(following, loop)
    for number, (phi, value) in enumerate(zip(sums, current, strict=True)):
        phi.add_incoming(ir.Constant(vector, [number] * lanes), entry)
        phi.add_incoming(value, loop)
    builder = ir.IRBuilder(done)
    total = current[0]
    for value in current[1:]:
        total = builder.fadd(total, value) if vector.element == F32 else builder.add(total, value)
    builder.ret(builder.extract_element(total, ir.Constant(I32, 0)))
    start = sum(range(chains))
    restype = ctypes.c_float if vector.element == F32 else ctypes.c_int32
    return _compiled(
        target, module, restype, lambda turns: start + grows * UNROLL * chains * turns, operations * chains * UNROLL
    )


def _broadcast(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def _amx(target: Target) -> Kernel:
    """Tiles of bytes, all ones: each product adds 64 to every sum. The CPU's permission is asked for here."""
    if ctypes.CDLL(None).syscall(SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA):
        raise OSError("AMX is not permitted here")
    module = ir.Module("peak")
    function = ir.Function(module, ir.FunctionType(I32, [I64]), "peak")
    entry, loop, done = (function.append_basic_block(name) for name in ("entry", "loop", "done"))

    def tile(builder: ir.IRBuilder, name: str, *operands: ir.Value) -> None:
        name = f"llvm.x86.{name}"
        kind = ir.FunctionType(VOID, [operand.type for operand in operands])
        builder.call(module.globals.get(name) or ir.Function(module, kind, name), operands)

    builder = ir.IRBuilder(entry)
    config = bytearray(64)  # palette 1; then bytes of a row (16 bits) and rows (8 bits) of each tile
    config[0] = 1
    config[16:32] = TILE_BYTES.to_bytes(2, "little") * 8
    config[48:56] = bytes([TILE_ROWS]) * 8
    table, memory = (builder.alloca(ir.ArrayType(I8, size)) for size in (64, TILE_ROWS * TILE_BYTES))
    builder.store(ir.Constant(table.type.pointee, config), table)
    builder.store(ir.Constant(memory.type.pointee, bytearray([1]) * (TILE_ROWS * TILE_BYTES)), memory)
    address, stride = builder.bitcast(memory, I8.as_pointer()), ir.Constant(I64, TILE_BYTES)
    tile(builder, "ldtilecfg", builder.bitcast(table, I8.as_pointer()))
    numbers = [ir.Constant(I8, number) for number in range(8)]
    for number in numbers[:TILE_CHAINS]:
        tile(builder, "tilezero", number)
    for number in numbers[TILE_CHAINS:]:
        tile(builder, "tileloadd64", number, address, stride)
    builder.branch(loop)
    builder = ir.IRBuilder(loop)
    index = builder.phi(I64)
    for _ in range(UNROLL):
        for number in numbers[:TILE_CHAINS]:
            tile(builder, "tdpbusd", number, *numbers[TILE_CHAINS:])
    following = builder.add(index, ir.Constant(I64, 1))
    builder.cbranch(builder.icmp_signed("<", following, function.args[0]), loop, done)
    index.add_incoming(ir.Constant(I64, 0), entry)
    index.add_incoming(following, loop)
    builder = ir.IRBuilder(done)
    tile(builder, "tilestored64", numbers[TILE_CHAINS - 1], address, stride)
    result = builder.load(builder.bitcast(memory, I32.as_pointer()))
    tile(builder, "tilerelease")
    builder.ret(result)
    products = TILE_CHAINS * UNROLL * TILE_ROWS * (TILE_BYTES // 4) * TILE_BYTES
    return _compiled(target, module, ctypes.c_int32, lambda turns: TILE_BYTES * UNROLL * turns, 2 * products)


def _compiled(
    target: Target, module: ir.Module, restype: type, expected: Callable[[int], float], operations: int
) -> Kernel:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module.triple = target.triple
    features = [f if f[0] in "+-" else f"+{f}" for f in target.attrs]
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=",".join(features), opt=3, jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(restype, ctypes.c_int64)(engine.get_function_address("peak"))
    return Kernel(engine, call, expected, operations)


KERNELS: dict[str, Callable[[Target], Kernel]] = {
    "float32": _float32,
    "vpdpbusd": _vpdpbusd,
    "pmaddwd": _pmaddwd,
    "amx": _amx,
}
