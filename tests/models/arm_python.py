"""A Python with numpy for 64-bit Arm, from Debian's packages and PyPI, that runs edgert's own Python runner under QEMU.

Nothing is installed: packages are unpacked into a folder of the cache, with lists of their own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from compiler.codegen.cache import cache_dir
from edgert.native.build import build_library

ROOT = Path(__file__).parents[2]
LIBRARIES = ("libc6", "libexpat1", "zlib1g", "libssl3", "libffi8", "libgcc-s1", "libbz2-1.0", "liblzma5", "libuuid1",
             "libstdc++6")  # fmt: skip
# QEMU's user mode shows this machine's /proc/cpuinfo, so what its -cpu max has is said here.
RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import numpy as np
import edgert
import edgert.machine
from edgert import npy
edgert.machine.host_features = lambda: frozenset("fp asimd fphp asimdhp asimddp i8mm".split())
artifact, given, out = sys.argv[3:]
with edgert.load(artifact, threads=2) as model:
    feeds = {t["name"]: np.load(f"{given}/{npy.file_stem(t['name'])}.npy") for t in model.manifest["inputs"]}
    for name, array in model.run(feeds).items():
        Path(out, f"{npy.file_stem(name)}.npy").write_bytes(npy.to_bytes(array))
"""


def _call(*words: object, folder: Path) -> None:
    subprocess.run([str(word) for word in words], cwd=folder, check=True, capture_output=True, timeout=300)


def _make(folder: Path) -> None:
    for name in ("state/lists/partial", "cache/archives/partial", "root", "debs", "site"):
        (folder / name).mkdir(parents=True)
    (folder / "state" / "status").touch()
    told = {"APT::Architecture": "arm64", "APT::Architectures": "arm64", "Dir::State": folder / "state",
            "Dir::State::status": folder / "state" / "status", "Dir::Cache": folder / "cache"}  # fmt: skip
    apt = ["apt-get", *(word for key, value in told.items() for word in ("-o", f"{key}={value}"))]
    _call(*apt, "update", folder=folder)
    # what python3-minimal is called depends on the release
    listed = [*apt[1:], "depends", "python3-minimal", "libpython3-stdlib"]
    said = subprocess.run(["apt-cache", *map(str, listed)], capture_output=True, text=True, check=True).stdout
    found = {line.split()[-1] for line in said.splitlines() if "python3." in line}
    version = next(name.removesuffix("-minimal") for name in found if name.endswith("-minimal"))
    real = [f"{version}-minimal", f"lib{version}-minimal", f"lib{version}-stdlib", *LIBRARIES]
    _call(*apt, "download", *real, folder=folder / "debs")
    for package in (folder / "debs").iterdir():
        _call("dpkg", "-x", package, folder / "root", folder=folder)
    platforms = [f"--platform=manylinux{kind}_aarch64" for kind in ("2014", "_2_27", "_2_28")]
    _call(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", *platforms,
          f"--python-version={version.removeprefix('python')}", "--target", folder / "site",
          f"numpy=={np.__version__}", folder=folder)  # fmt: skip


@cache
def _source() -> tempfile.TemporaryDirectory[str]:
    """edgert's Python runner with a C runtime for Arm; of this process."""
    folder = tempfile.TemporaryDirectory(prefix="edgert-arm-")
    for package in ("edgert", "flashload", "targets"):
        shutil.copytree(ROOT / package, Path(folder.name) / package)
    build_library(Path(folder.name) / "edgert" / "native" / "libedgert.so", "aarch64")
    return folder


@cache
def arm_python() -> Path | None:
    """The folder with it; None where it cannot be had."""
    folder = cache_dir() / f"arm64-python-{np.__version__}"
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "arm64-python.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if (folder / "python").is_symlink():
            return folder
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            return None
        made = Path(tempfile.mkdtemp(dir=cache_dir()))
        try:
            _make(made)
        except (OSError, subprocess.SubprocessError, StopIteration):
            shutil.rmtree(made)
            return None
        for name in ("state", "cache", "debs"):
            shutil.rmtree(made / name)
        (made / "python").symlink_to(next((made / "root" / "usr" / "bin").glob("python3.*")).name)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    return folder


def run_python(emulator: list[str], artifact: Path, given: Path, out: Path) -> None:
    """Run an artifact on the .npy files of `given` by edgert's Python runner, its outputs to `out`."""
    folder = arm_python()
    assert folder is not None
    root = folder / "root"
    python = root / "usr" / "bin" / (folder / "python").readlink()
    words = [_source().name, folder / "site", artifact, given, out]
    _call(*emulator, "-L", root, python, "-c", RUN, *words, folder=folder)
