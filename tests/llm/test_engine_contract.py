"""The engine of these tests does what engines have to do, and importing needs none of the optional packages."""

import subprocess
import sys
from pathlib import Path

import edgert.llm
from tests.llm.engine_contract import check_engine
from tests.llm.fake_engine import FakeEngine


def test_the_fake_engine_keeps_the_contract() -> None:
    check_engine(lambda: FakeEngine(50, context=64))


def test_importing_needs_no_optional_package() -> None:
    folder = Path(edgert.llm.__file__).parent
    modules = [f"edgert.llm.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"]
    assert len(modules) > 10
    optional = {"tokenizers", "jinja2", "llguidance", "onnx", "onnxruntime", "tvm"}
    check = f"import sys, {', '.join(modules)}; print(sorted({optional} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
