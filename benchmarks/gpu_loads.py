"""The README's table of loads on a graphics processor, with and without kept kernels: `python -m benchmarks.gpu_loads`.

Each load is a process of its own, and PoCL's cache is empty each time: what the second one has is beside the artifact.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import edgert
from benchmarks.cases import CASES, FOLDER, Case
from benchmarks.readme import markdown, update
from compiler.zoo import pull
from edgert.opencl.device import Device

COLUMNS = ("model", "kernels", "seconds to the first answer, built from source", "kept ones", "times faster")
# until the first answer, less what answering takes: drivers build some of it at the first launch
LOAD = """
import json, sys, time, edgert
from edgert.opencl.device import Device
from compiler.golden import make_inputs
Device(0).close()
start = time.perf_counter()
model = edgert.load(sys.argv[1])
given = make_inputs(model.manifest)
model.run(given)
first, again = time.perf_counter(), []
for _ in range(3):
    begun = time.perf_counter()
    model.run(given)
    again.append(time.perf_counter() - begun)
kernels = len({launch["kernel"] for launch in model.manifest["device"]["launches"]})
print(json.dumps({"seconds": first - start - min(again), "kernels": kernels}))
"""


def load(artifact: Path) -> dict[str, float]:
    """Seconds that a load takes in a new process whose driver has nothing cached, and the model's distinct kernels."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "POCL_CACHE_DIR": cache}
        command = [sys.executable, "-c", LOAD, str(artifact)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def row(case: Case, folder: Path) -> list[object]:
    """One model's."""
    artifact = folder / f"{case.name}.edge"
    edgert.compile(pull(case.name, FOLDER), artifact, target="opencl", shapes=case.shapes, golden=False)
    first, second = load(artifact), load(artifact)
    seconds = first["seconds"], second["seconds"]
    return [case.name, first["kernels"], *(f"{s:.2f}" for s in seconds), f"{seconds[0] / seconds[1]:.0f}"]


def main() -> None:
    """Measures, and writes the table."""
    device = Device(0)
    name = f"{device.info.name}, {device.info.version}"
    device.close()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(case, Path(folder)) for case in CASES]
    update("gpu-loads", f"On {name}:\n\n{markdown(COLUMNS, rows)}")


if __name__ == "__main__":
    main()
