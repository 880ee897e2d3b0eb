"""Run with LD_PRELOAD=count.so: prints how often the allocator is called while loading, and during 100 runs."""

import ctypes
import sys

import edgert
from edgert.binding import make_output
from tests.edgert import fake_artifact as fake


def main(library: str, path: str) -> None:
    counter = ctypes.CDLL(library)
    counter.count_all.restype = counter.count_during.restype = ctypes.c_int64
    before = counter.count_all()
    for threads, profiled in ((1, False), (3, False), (3, True)):
        model = edgert.load(path, threads=threads)
        if threads == 1:
            print("loading", counter.count_all() - before)
        program, spec = model._program, model._program.spec
        bound = model.bind(fake.make_inputs(fake.ROWS), {tensor.name: make_output(tensor) for tensor in spec.outputs})
        counts = (ctypes.c_int64 * len(spec.steps))()
        pointers = [program.pool, program.code.entry, model._arena_at, program.weights.ctypes.data]
        calls = counter.count_during(
            program.library.edgert_rt_run, *map(ctypes.c_void_p, pointers), bound.io, bound.dims,
            counts if profiled else None, ctypes.c_int64(len(spec.steps)), ctypes.c_int64(100),
        )  # fmt: skip
        print("profile" if profiled else threads, calls)


main(*sys.argv[1:])
