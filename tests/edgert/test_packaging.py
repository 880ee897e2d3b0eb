"""What `import edgert` brings in, and the wheel by itself."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
COMPILER = {"tvm", "tvm_ffi", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "llvmlite", "ml_dtypes", "ziglang"}
RUN = """
import json, sys
import edgert
model = edgert.load(sys.argv[1], threads=2)
inputs, wanted = model.artifact.golden()
results = model.run(inputs)
right = all((results[name] == array).all() for name, array in wanted.items())
print(json.dumps({"right": bool(right), "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def _python(python: Path | str, *arguments: object, **extra: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | extra
    command = [str(python), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_running_imports_no_compiler_and_nothing_for_terminals(fake_path: Path) -> None:
    done = json.loads(_python(sys.executable, "-c", RUN, fake_path, PYTHONPATH=str(ROOT)))
    assert done["right"]
    assert not set(done["modules"]) & (COMPILER | {"compiler", "quant", "rich", "click"})


@pytest.mark.slow
@pytest.mark.registry
def test_the_wheel_alone_runs_an_artifact(tmp_path: Path, fake_path: Path) -> None:
    """Built from this tree, installed without extras into a fresh environment, away from the tree."""
    _python(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").iterdir()
    assert wheel.name.startswith("edgert-")
    assert "-py3-none-manylinux_2_17_" in wheel.name
    venv.create(tmp_path / "alone", with_pip=True)
    python = tmp_path / "alone" / "bin" / "python"
    numpy = f"numpy=={np.__version__}"
    _python(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, numpy)
    installed = {line.split("==")[0].lower() for line in _python(python, "-m", "pip", "freeze").splitlines()}
    assert not installed & ({name.replace("_", "-") for name in COMPILER} | {"apache-tvm", "apache-tvm-ffi"})
    done = json.loads(_python(python, "-I", "-c", RUN, fake_path))
    assert done["right"]
    version = _python(tmp_path / "alone" / "bin" / "edgert", "--version")
    assert version.startswith("edgert, version ")
