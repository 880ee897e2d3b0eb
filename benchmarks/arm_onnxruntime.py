"""ONNX Runtime's wheel for 64-bit Arm under QEMU's user mode, in the Python that tests unpack from Debian's packages.

QEMU shows programs this machine's /proc/cpuinfo, on which the wheel's reader of processors crashes; so it is shown one
that says what the emulated processor has, with as many cores as /sys lists (fewer crash it, too).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from compiler.codegen.cache import cache_dir
from edgert.errors import EdgertError
from tests.models.arm_python import arm_python

PLATFORMS = [f"--platform=manylinux{kind}_aarch64" for kind in ("2014", "_2_27", "_2_28")]
RUN = """
import os, sys
sys.path[:0] = sys.argv[1:3]
import numpy as np
import onnxruntime as ort
def mark():
    try:
        os.getsid(519181)  # qemu_count.c notes how many instructions there were
    except ProcessLookupError:
        pass
model, given, out, runs = sys.argv[3:]
options = ort.SessionOptions()
options.log_severity_level = 3
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
feeds = dict(np.load(given))
answers = session.run(None, feeds)
mark()
for _ in range(int(runs)):
    session.run(None, feeds)
    mark()
np.savez(out, **dict(zip([o.name for o in session.get_outputs()], answers)))
"""
CPUINFO = """processor\t: {number}
BogoMIPS\t: 100.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: {part}
CPU revision\t: 0

"""


@dataclass(frozen=True)
class Processor:
    """An emulated processor: QEMU's name, Arm's number of the part, features in the words of /proc/cpuinfo."""

    cpu: str
    part: str
    features: str


_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_DOT = f"{_BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
PROCESSORS = {
    "cortex-a53": Processor("cortex-a53", "0xd03", _BASE),
    "cortex-a76": Processor("cortex-a76", "0xd0b", _DOT),
    # without vectors of open length, whose size in QEMU is no real processor's; bf16 as the real one has it
    "cortex-x2": Processor("max,sve=off", "0xd48", f"{_DOT} i8mm bf16"),
}


def _wheel() -> Path:
    """The unpacked wheel of the version that this process has. Raises EdgertError where pip cannot get it."""
    folder = cache_dir() / f"arm64-onnxruntime-{onnxruntime.__version__}"
    python = arm_python()
    if python is None:
        raise EdgertError("no Python for 64-bit Arm: it takes apt-get and PyPI")
    if not folder.is_dir():
        version = (python / "python").readlink().name.removeprefix("python")
        with tempfile.TemporaryDirectory(dir=cache_dir()) as made:
            words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", *PLATFORMS]
            words += [f"--python-version={version}", "--target", made, f"onnxruntime=={onnxruntime.__version__}"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise EdgertError(f"pip: {' '.join(done.stderr.split())[-300:]}")
            shutil.copytree(made, folder)
    return folder


def command(emulator: list[str], processor: Processor, folder: Path, words: list[str]) -> list[str]:
    """The words that run ONNX Runtime: on a model, an .npz of inputs, an .npz to write, a number of runs.

    folder: an empty one, for what the program sees as the root of the file system. Raises EdgertError.
    """
    wheel, python = _wheel(), arm_python()
    assert python is not None
    root, program = folder / "root", python / "root" / "usr" / "bin" / (python / "python").readlink()
    if not root.is_dir():
        shutil.copytree(python / "root", root, copy_function=os.symlink, symlinks=True)
        (root / "proc").mkdir()
        told = {"features": processor.features, "part": processor.part}
        cores = range(os.cpu_count() or 1)
        (root / "proc" / "cpuinfo").write_text("".join(CPUINFO.format(number=core, **told) for core in cores))
    return [*emulator, "-cpu", processor.cpu, "-L", str(root), str(program), "-c", RUN, str(wheel),
            str(python / "site"), *words]  # fmt: skip
