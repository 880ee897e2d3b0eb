"""The exact solver's search, compiled from C by zig once per user and called through ctypes."""

from __future__ import annotations

import ctypes
import platform
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compiler.codegen.cache import cached
from compiler.codegen.link import zig

HERE = Path(__file__).parent
SOURCES = ("search.c", "bounds.c")
# No C library is linked in: the one function that the compiler may call, memset, is in every process.
FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-nostdlib", "-s", "-fno-sanitize=undefined", "-fno-stack-protector",
         "-Wall", "-Wextra", "-Werror")  # fmt: skip
CPUS = {"x86_64": "x86_64_v2"}  # with minima of 32-bit integers in vectors; elsewhere zig's least

FOUND, NONE, OUT_OF_WORK = range(3)
_INT32 = np.ctypeslib.ndpointer(np.int32, flags="C")
_COUNTER = ctypes.POINTER(ctypes.c_int64)


class Answer(NamedTuple):
    """What one search says: FOUND with offsets, NONE with the least capacity to try next, or OUT_OF_WORK.

    Sizes in units; `work` is what it took of what it was given, `nodes` the placements it tried.
    """

    status: int
    offsets: np.ndarray
    next: int
    work: int
    nodes: int


@cache
def library() -> ctypes.CDLL:
    """The search, built if it was not yet. Raises LinkError when zig fails."""
    machine = platform.machine()

    def make() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            target = ["-target", f"{machine}-linux-musl", f"-mcpu={CPUS.get(machine, 'baseline')}"]
            zig("cc", *target, *FLAGS, "-o", "search.so", *(str(HERE / name) for name in SOURCES), cwd=Path(folder))
            return Path(folder, "search.so").read_bytes()

    source = "\0".join([machine, *FLAGS, *(HERE.joinpath(name).read_text() for name in ("search.h", *SOURCES))])
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(cached("placement", source, make))
        file.flush()
        found = ctypes.CDLL(file.name)
    found.exact_scratch.restype = ctypes.c_int64
    number = ctypes.c_int32
    found.exact_search.argtypes = [
        number, number, _INT32, _INT32, _INT32, number, _COUNTER, _COUNTER, ctypes.POINTER(number), _INT32, _INT32
    ]  # fmt: skip
    return found


def preparation(spans: np.ndarray) -> int:
    """What a search of `spans` takes of its work before it begins."""
    return len(spans) * (len(spans) + int(spans[:, 2].max(initial=0)))


def search(spans: np.ndarray, order: Sequence[int] | np.ndarray, capacity: int, work: int) -> Answer:
    """Look for a placement within `capacity`, with `work` visits of buffers and sections at most.

    `spans` are rows of size, first section and section after the last (int32, sizes above 0, their sum below 2^30);
    `order` is the permutation in which the search prefers them.
    """
    count, sections = len(spans), int(spans[:, 2].max(initial=0))
    columns = [np.ascontiguousarray(spans[order, column], dtype=np.int32) for column in range(3)]
    place = np.empty(count, np.int32)
    scratch = np.empty(library().exact_scratch(count, sections), np.int32)
    left, nodes, after = ctypes.c_int64(work - preparation(spans)), ctypes.c_int64(0), ctypes.c_int32(0)
    status = library().exact_search(
        count,
        sections,
        *columns,
        capacity,
        ctypes.byref(left),
        ctypes.byref(nodes),
        ctypes.byref(after),
        place,
        scratch,
    )
    offsets = np.empty(count, np.int64)
    offsets[order] = place
    return Answer(status, offsets, after.value, work - left.value, nodes.value)
