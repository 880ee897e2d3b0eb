"""The most this machine's cores can do: float32 multiply-adds from registers alone, built with llvmlite.

The loop has more independent chains than the units are deep, and touches no memory, so what it reaches is the ceiling
for any kernel. It is measured, not looked up: clocks depend on what else the machine does.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from functools import cache

import llvmlite.binding as llvm
import llvmlite.ir as ir

from targets import get_target

UNROLL = 4
ITERATIONS = (50_000, 200_000)  # short enough to fit between interruptions; long enough to hide starting threads
LEAST_CALLS = 50  # however slowly the first ones go: a stalled machine must not pass for a slow one


@cache
def _kernel() -> tuple[object, Callable[[int], float], int]:
    """The JIT (to keep alive), the function f(iterations) -> float, and the operations of one iteration."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = get_target("host")
    lanes = target.lanes("float32")
    chains = target.registers - 4
    vector, double = ir.VectorType(ir.FloatType(), lanes), ir.IntType(64)
    module = ir.Module("peak")
    module.triple = target.triple
    function = ir.Function(module, ir.FunctionType(ir.FloatType(), [double]), "peak")
    fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32")
    entry, loop, done = (function.append_basic_block(name) for name in ("entry", "loop", "done"))
    ir.IRBuilder(entry).branch(loop)
    builder = ir.IRBuilder(loop)
    index = builder.phi(double)
    sums = [builder.phi(vector) for _ in range(chains)]
    # Values the optimiser cannot know, and that neither grow nor die away: x * 1 + 0 with both made from `index`.
    zero = builder.bitcast(builder.trunc(builder.lshr(index, ir.Constant(double, 40)), ir.IntType(32)), ir.FloatType())
    undefined = ir.Constant(vector, ir.Undefined)
    start = builder.insert_element(undefined, zero, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    small = builder.shuffle_vector(start, undefined, mask)
    factor = builder.fadd(small, ir.Constant(vector, [1.0] * lanes))
    current = list(sums)
    for _ in range(UNROLL):
        current = [builder.call(fma, [value, factor, small]) for value in current]
    following = builder.add(index, ir.Constant(double, 1))
    builder.cbranch(builder.icmp_signed("<", following, function.args[0]), loop, done)
    index.add_incoming(ir.Constant(double, 0), entry)
    index.add_incoming(following, loop)
    for number, (phi, value) in enumerate(zip(sums, current, strict=True)):
        phi.add_incoming(ir.Constant(vector, [float(number)] * lanes), entry)
        phi.add_incoming(value, loop)
    builder = ir.IRBuilder(done)
    total = current[0]
    for value in current[1:]:
        total = builder.fadd(total, value)
    builder.ret(builder.extract_element(total, ir.Constant(ir.IntType(32), 0)))
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=",".join(target.attrs), opt=3, jit=True
    )
    parsed = llvm.parse_assembly(str(module))
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(engine.get_function_address("peak"))
    return engine, call, 2 * lanes * chains * UNROLL


def measure_peak(threads: int = 1, seconds: float = 0.5) -> float:
    """GFLOP/s (a multiply-add counts two) of `threads` threads together, the best of about `seconds`."""
    _, call, operations = _kernel()
    best = 0.0
    until = time.perf_counter() + seconds
    calls = 0
    while time.perf_counter() < until or calls < LEAST_CALLS:
        calls += 1
        iterations = ITERATIONS[calls % len(ITERATIONS)]
        workers = [threading.Thread(target=call, args=(iterations,)) for _ in range(threads - 1)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        call(iterations)  # ctypes lets the other threads run meanwhile
        for worker in workers:
            worker.join()
        best = max(best, threads * iterations * operations / (time.perf_counter() - start) / 1e9)
    return best


if __name__ == "__main__":
    for count in (1, 2):
        print(f"{count} threads: {measure_peak(count):.1f} GFLOP/s")
