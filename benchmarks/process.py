"""Load time and peak memory, each in a fresh process: nothing is warm, and nothing else is in it."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.cases import Case
from edgert import npy
from edgert.artifact import Artifact

# VmHWM, not getrusage: the latter also counts what the parent had when it forked.
HIGH_WATER = """
def high_water():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
"""
RUN_EDGERT = """
import sys
from edgert.cli import main
try:
    main(["run", sys.argv[1], "--threads", "1", "--output", sys.argv[2], *sys.argv[3:]])
except SystemExit as end:
    assert end.code == 0
print(high_water())
"""
RUN_ORT = """
import sys, numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = dict(arg.split("=", 1) for arg in sys.argv[3:] if arg != "--input")
outputs = session.run(None, {name: np.load(file) for name, file in feed.items()})
for number, output in enumerate(outputs):
    np.save(f"{sys.argv[2]}/{number}.npy", output)
print(high_water())
"""
LOAD_EDGERT = """
import sys, time, edgert, edgert.runner
start = time.perf_counter()
model = edgert.load(sys.argv[1], threads=1)
print(time.perf_counter() - start)
"""
LOAD_ORT = """
import sys, time, numpy, onnxruntime
start = time.perf_counter()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a whole process that loads, runs once and writes its outputs; milliseconds of a load after import."""

    model: str
    edgert_bytes: int
    ort_bytes: int
    edgert_load_ms: float
    ort_load_ms: float
    arena_bytes: int
    weights_bytes: int


def measure(case: Case, times: int = 5) -> Footprint:
    """The best load of `times` fresh processes each, and the peak memory of one run each."""
    artifact = Artifact.open(case.artifact)
    inputs, manifest = artifact.golden()[0], artifact.manifest
    with tempfile.TemporaryDirectory() as folder:
        options = []
        for name, array in inputs.items():
            file = Path(folder) / f"in-{npy.file_stem(name)}.npy"
            np.save(file, array)
            options += ["--input", f"{name}={file}"]
        ours = int(fresh(HIGH_WATER + RUN_EDGERT, str(case.artifact), folder, *options))
        theirs = int(fresh(HIGH_WATER + RUN_ORT, str(case.onnx), folder, *options))
    loads = [float(fresh(LOAD_EDGERT, str(case.artifact))) for _ in range(times)]
    ort_loads = [float(fresh(LOAD_ORT, str(case.onnx))) for _ in range(times)]
    sizes = manifest["arena_bytes"], manifest["weights_bytes"]
    return Footprint(case.name, ours, theirs, 1e3 * min(loads), 1e3 * min(ort_loads), *sizes)


def fresh(code: str, *args: str) -> str:
    """The last line that `code` prints in a Python process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.splitlines()[-1] if done.stderr else f"exit code {done.returncode}")
    return done.stdout.splitlines()[-1]


@dataclass(frozen=True)
class CompileTime:
    """Seconds of `edgert compile` as a whole process, with an empty kernel cache and with a full one."""

    model: str
    cold: float
    warm: float


def measure_compile(case: Case) -> CompileTime:
    """Compile `case` twice with a kernel cache of its own that starts empty."""
    code = """
import os, subprocess, sys, time, json
times = []
for _ in range(2):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "edgert.cli", "compile", *sys.argv[2:]], check=True,
                   env={**os.environ, "EDGERT_CACHE": sys.argv[1]}, stdout=subprocess.DEVNULL)
    times.append(time.perf_counter() - start)
print(json.dumps(times))
"""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/m.edge"
        cold, warm = json.loads(fresh(code, f"{folder}/cache", str(case.onnx), "-o", out, *case.shape_options))
    return CompileTime(case.name, cold, warm)
