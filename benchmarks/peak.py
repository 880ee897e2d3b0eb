"""The most this machine's cores can do: multiply-adds from registers alone, of float32 and of bytes.

It is measured, not looked up: clocks depend on what else the machine does.
"""

import threading
import time

from benchmarks.peak_kernels import Kernel, kernel, units

CALLS = (0.001, 0.004)  # seconds: short enough to fit between interruptions; long enough to hide starting threads
TRIAL = 2000  # iterations to find out how many take so long
LEAST_CALLS = 50  # however slowly the first ones go: a stalled machine must not pass for a slow one


def measure_peak(threads: int = 1, seconds: float = 0.5, unit: str = "float32") -> float:
    """10^9 operations a second (a multiply-add counts two) of `threads` threads together, the best of about `seconds`.

    `unit` is one of `benchmarks.peak_kernels.units()`.
    """
    loop = kernel(unit)
    best = 0.0
    trial = min(_timed(loop, TRIAL, 1) for _ in range(3))
    turns = [max(1, round(TRIAL * length / trial)) for length in CALLS]
    until = time.perf_counter() + seconds
    calls = 0
    while time.perf_counter() < until or calls < LEAST_CALLS:
        calls += 1
        iterations = turns[calls % len(turns)]
        best = max(best, threads * iterations * loop.operations / _timed(loop, iterations, threads) / 1e9)
    return best


def _timed(loop: Kernel, iterations: int, threads: int) -> float:
    """Seconds until `threads` threads have each gone `iterations` times round the loop."""
    workers = [threading.Thread(target=loop.call, args=(iterations,)) for _ in range(threads - 1)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    loop.call(iterations)  # ctypes lets the other threads run meanwhile
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


if __name__ == "__main__":
    for name in units():
        for count in (1, 2):
            print(f"{name}, {count} threads: {measure_peak(count, unit=name):.0f} GOP/s")
