"""Programs under the kernel's own limit of memory, page cache included: a memory cgroup, version 1 or 2."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
LEFT = 1 << 20  # bytes of a file that may stay in the page cache when it is forgotten


@dataclass(frozen=True)
class Limited:
    """How a program ended under a limit. returncode: negative when a signal ended it; killed: by the kernel, for
    memory. peak: most bytes of the group, page cache included (None where the kernel does not say).
    read_bytes: that came from disks, of all of the group's programs."""

    returncode: int
    stdout: str
    stderr: str
    peak: int | None
    killed: bool
    seconds: float


def unusable() -> str | None:
    """Why limits cannot be set here, or None where they can."""
    try:
        _hierarchy()
        group = _Group(64 << 20)
    except OSError as error:
        return f"no memory cgroup can be made: {error}"
    group.remove()
    return None


def run_limited(
    command: Sequence[str | os.PathLike[str]], limit: int, timeout: float = 120.0, env: Mapping[str, str] | None = None
) -> Limited:
    """Run `command` in a new group of `limit` bytes (whole pages), without swap; everything it leaves is killed.

    The limit stands before the program's first instruction. Raises OSError where there is no memory cgroup, and
    subprocess.TimeoutExpired.
    """
    group = _Group(limit)
    try:
        # the shell joins the group and becomes the program: nothing of this process is charged to it
        shell = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group.tasks), *map(str, command)]
        start = time.perf_counter()
        process = subprocess.Popen(
            shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            group.kill()
            process.communicate()
            raise
        seconds = time.perf_counter() - start
        killed = process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL) and group.killed()
        return Limited(process.returncode, stdout, stderr, group.peak(), killed, seconds)
    finally:
        group.kill()
        group.remove()


def forget(path: str | os.PathLike[str]) -> None:
    """Drop a file's pages from the page cache, so that who reads it next is charged for them.

    Raises OSError where they stay: some process has them mapped, and who reads them would not be charged.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.fsync(descriptor)  # pages that are not on the disk yet stay where they are
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if (left := _cached(descriptor)) > LEFT:
            raise OSError(errno.EBUSY, f"{left} bytes stay in the page cache: some process has them mapped", str(path))
    finally:
        os.close(descriptor)


def _cached(descriptor: int) -> int:
    """Bytes of a file that are in the page cache."""
    size = os.fstat(descriptor).st_size
    if not size:
        return 0
    with mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as held:  # no page is written
        flags = (ctypes.c_ubyte * (-(-size // PAGE)))()
        place = ctypes.addressof(at := ctypes.c_char.from_buffer(held))
        wrong = ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(place), ctypes.c_size_t(size), flags)
        del at
        if wrong:
            raise OSError(ctypes.get_errno(), "mincore")
        return PAGE * sum(flag & 1 for flag in flags)


class _Group:
    """One directory of the hierarchy."""

    def __init__(self, limit: int) -> None:
        self._version, base = _hierarchy()
        self.folder = base / f"edgert-{os.getpid()}-{os.urandom(4).hex()}"
        self.folder.mkdir()
        self.tasks = self.folder / "cgroup.procs"
        try:
            self._write("memory.limit_in_bytes" if self._version == 1 else "memory.max", limit // PAGE * PAGE)
            for name in ("memory.memsw.limit_in_bytes", "memory.swap.max"):  # where swap is accounted for
                if (self.folder / name).exists():
                    self._write(name, limit // PAGE * PAGE if self._version == 1 else 0)
        except OSError:
            self.remove()
            raise

    def _write(self, name: str, value: int) -> None:
        (self.folder / name).write_text(str(value))

    def peak(self) -> int | None:
        path = self.folder / ("memory.max_usage_in_bytes" if self._version == 1 else "memory.peak")
        return int(path.read_text()) if path.exists() else None

    def killed(self) -> bool:
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        facts = dict(line.split() for line in (self.folder / name).read_text().splitlines())
        return int(facts.get("oom_kill", "1")) > 0  # old kernels do not count: then the signal tells

    def kill(self) -> None:
        deadline = time.monotonic() + 10
        while pids := self.tasks.read_text().split():
            for pid in pids:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)

    def remove(self) -> None:
        for _ in range(100):  # the kernel may take a moment to let the last program go
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.02)


def _hierarchy() -> tuple[int, Path]:
    """Version and the folder to make groups in. Raises OSError where there is none."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for _, folder, kind, options, *_ in mounts:
        if kind == "cgroup" and "memory" in options.split(","):
            return 1, Path(folder)
    for _, folder, kind, *_ in mounts:
        if kind == "cgroup2":
            base = Path(folder)
            if "memory" not in (base / "cgroup.controllers").read_text().split():
                continue
            if "memory" not in (base / "cgroup.subtree_control").read_text().split():
                (base / "cgroup.subtree_control").write_text("+memory")
            return 2, base
    raise OSError("no memory controller is mounted")
