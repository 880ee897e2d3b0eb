"""Measure how fast this machine reads its disk (past the page cache) and its memory."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

from edgert import cpu
from edgert.atomic import write_atomic
from edgert.errors import EdgertError, UsageError
from edgert.interface.show import print_json, table
from edgert.native.library import runtime
from edgert.units import format_bytes
from flashload import named_profiles
from flashload.named_profiles import LOCAL
from flashload.profile import FlashProfile

K = 1 << 10
BLOCKS = (4 * K, 16 * K, 64 * K, 256 * K, 1024 * K)
DEPTHS = (1, 2, 4)
RANDOM_BLOCKS, RANDOM_DEPTHS = (4 * K, 16 * K, 64 * K, 256 * K), (1, 4)
SLICE = 0.06  # seconds of one measurement; each is taken ROUNDS times, as disks that others use drift
ROUNDS = 3
LEAST = 8 << 20
CHUNK = 4 << 20


def measure(folder: Path, size: int, progress: Callable[[str, int, int], None] | None = None) -> FlashProfile:
    """Read a file of `size` bytes that is made in `folder`, and removed, with O_DIRECT; then memory.

    Raises UsageError where the folder, its space or its file system does not allow it.
    """
    if size < LEAST:
        raise UsageError(f"a file of {format_bytes(size)} is too small to measure with: give at least 8M")
    size -= size % BLOCKS[-1]
    kinds = [(False, b, d) for b in BLOCKS for d in DEPTHS]
    kinds += [(True, b, d) for b in RANDOM_BLOCKS for d in RANDOM_DEPTHS]
    found = {kind: [0.0, 0.0] for kind in kinds}  # bytes, seconds
    with _file(folder, size) as descriptor:
        for turn in range(ROUNDS):
            for number, (anywhere, block, depth) in enumerate(kinds):
                done, seconds = timed_reads(descriptor, size, block, depth, anywhere)
                found[anywhere, block, depth][0] += done
                found[anywhere, block, depth][1] += seconds
                if progress:
                    progress("reading", turn * len(kinds) + number + 1, ROUNDS * len(kinds))
    rates = {kind: done / seconds for kind, (done, seconds) in found.items()}
    tables = [{(b, d): rate for (kind, b, d), rate in rates.items() if kind == wanted} for wanted in (False, True)]
    source = f"measured {time.strftime('%Y-%m-%d')} with O_DIRECT on {format_bytes(size)} in {folder}"
    return FlashProfile(LOCAL, tables[0], tables[1], _memory_speed(), cpu.core_count(), source)


def store(profile: FlashProfile) -> Path:
    """Keep a profile under its name; gives the file. Raises EdgertError where it cannot be written."""
    folder = named_profiles.measured_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgertError(
            f"cannot make the folder {folder}: {error.strerror} (XDG_CACHE_HOME chooses another)"
        ) from None
    path = folder / f"{profile.name}.json"
    write_atomic(path, json.dumps(named_profiles.to_json(profile), indent=1).encode())
    return path


@contextmanager
def _file(folder: Path, size: int) -> Iterator[int]:
    """A file of random bytes without a name, open for reading past the page cache."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    if _file_system(folder) in ("tmpfs", "ramfs"):
        raise UsageError(f"{folder} lies in memory, not on a disk: choose another --folder")
    free = os.statvfs(folder)
    if free.f_bavail * free.f_frsize < size:
        raise UsageError(
            f"{folder} has {format_bytes(free.f_bavail * free.f_frsize)} free, measuring needs {format_bytes(size)}: "
            "choose another --folder or a smaller --size"
        )
    try:
        # closed and gone with the process, however that ends
        with tempfile.TemporaryFile(dir=folder, prefix="edgert-measure-", buffering=0) as file:
            for _ in range(0, size, CHUNK):  # random, as some disks store zeros without writing them
                file.write(os.urandom(min(CHUNK, size)))
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            descriptor = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EINVAL:  # of open, or of reading
            raise UsageError(
                f"the file system of {folder} cannot be read past the page cache (O_DIRECT), so that its device cannot "
                "be measured: choose another --folder"
            ) from None
        raise UsageError(f"cannot measure in {folder}: {error.strerror}") from None


def _file_system(folder: Path) -> str:
    """What kind of file system a folder lies in; empty where the system does not say."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == number), "")


def timed_reads(
    descriptor: int, size: int, block: int, depth: int, anywhere: bool, seconds: float = SLICE
) -> tuple[float, float]:
    """Bytes read and seconds taken, `depth` threads reading blocks in turn (or from anywhere) for so long. Raises
    OSError."""
    function = runtime().edgert_timed_reads
    i32, i64 = ctypes.c_int32, ctypes.c_int64
    function.argtypes, function.restype = [i32, i64, i64, i64, i32, i64, ctypes.POINTER(i64)], i64
    taken = i64()
    done = function(descriptor, size, block, depth, anywhere, int(seconds * 1e9), ctypes.byref(taken))
    if done < 0:
        raise OSError(-done, os.strerror(-done))
    return done, taken.value / 1e9


def _memory_speed() -> float:
    """Bytes a second that one core reads of memory, the best of a few sums; larger than caches where there is room."""
    room = cpu.available_memory() or 256 << 20
    values = np.ones(min(256 << 20, room // 4) // 8, np.int64)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        values.sum()
        best = max(best, values.nbytes / (time.perf_counter() - start))
    return best


def profile_text(profile: FlashProfile) -> None:
    """The speeds in MB/s, a row for each block size."""
    click.echo(f"{profile.name}: {profile.source or 'assumed'}")
    click.echo(f"{profile.cores} cores, memory {profile.dram / 1e9:.1f} GB/s for one of them")
    for name, speeds in (("sequential", profile.sequential), ("random", profile.random)):
        depths = sorted({depth for _, depth in speeds})
        rows = []
        for block in sorted({block for block, _ in speeds}):
            cells = [speeds.get((block, depth)) for depth in depths]
            rows.append([format_bytes(block), *("" if cell is None else f"{cell / 1e6:,.0f}" for cell in cells)])
        if rows:
            table([f"{name}, MB/s", *(f"{depth} at once" for depth in depths)], rows)


def show_profile(profile: FlashProfile, as_json: bool) -> None:
    """Print a profile, for people or as one JSON object."""
    if as_json:
        print_json(named_profiles.to_json(profile))
    else:
        profile_text(profile)
