"""adb:// devices, through a stand-in for the program adb that runs a device's commands on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgert.deploy.deploy import deploy, roll_back
from edgert.deploy.model import RemoteModel
from edgert.errors import EdgertError, UsageError
from tests.deploy.conftest import SEGMENT, write
from tests.edgert import fake_artifact as fake
from tests.llm import small_models

# As the real one: `shell -T TEXT` hands TEXT to the device's shell and its exit code back; it knows one serial number.
FAKE = """#!{python}
import os, sys
words = sys.argv[1:]
if words[:1] == ["-s"]:
    if words[1] != "emulator-5554":
        sys.exit(sys.stderr.write(f"adb: device '{{words[1]}}' not found\\n") and 1)
    words = words[2:]
assert words[:2] == ["shell", "-T"] and len(words) == 3, words
os.execv("/bin/sh", ["sh", "-c", words[2]])
"""


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "adb").write_text(FAKE.format(python=sys.executable))
    (tmp_path / "bin" / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return f"adb://emulator-5554{tmp_path}/a%20device"


def test_deploy_and_run(tmp_path: Path, fake_code: Path, adb: str, inputs: dict[str, np.ndarray]) -> None:
    (tmp_path / "a").mkdir()
    old, new = write(tmp_path / "m.edge", fake_code), write(tmp_path / "a" / "m.edge", fake_code, changed=2)
    assert deploy(str(old), adb).sent_bytes == old.stat().st_size
    sent = deploy(str(new), adb)
    assert SEGMENT < sent.sent_bytes < SEGMENT + 10_000
    there = tmp_path / "a device" / "m.edge"
    assert there.read_bytes() == new.read_bytes()
    roll_back("m.edge", adb)
    assert there.read_bytes() == old.read_bytes()
    with RemoteModel(str(old), adb.replace("emulator-5554", ""), threads=1) as model:
        np.testing.assert_array_equal(model.run(inputs)["z"], fake.expected(inputs)["z"])
        assert model.time(inputs, 0.01).calls >= 3
        with pytest.raises(UsageError, match="has n = 1025, the model was compiled for 1 to 1024"):
            model.run(fake.make_inputs(1025))


def test_a_language_model(adb: str) -> None:
    """It goes on with a text there, once; the runner then runs it."""
    assert deploy(str(small_models.artifact()), adb).said[0].isdigit()


def test_what_is_not_there(tmp_path: Path, fake_code: Path, adb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write(tmp_path / "m.edge", fake_code))
    with pytest.raises(EdgertError, match="adb: device 'other' not found"):
        deploy(path, adb.replace("emulator-5554", "other"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="need the program adb"):
        deploy(path, adb)
