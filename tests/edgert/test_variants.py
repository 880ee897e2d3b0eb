"""Artifacts with code for several processors: the best that the machine runs is taken, by all runners."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgert
from edgert import artifact
from edgert.errors import EdgertError, UsageError
from edgert.interface.inspect import inspect
from targets import host_features
from targets.several import get_targets
from tests.edgert import fake_artifact as fake
from tests.edgert.fake_fixtures import fake_code
from tests.native.conftest import Run, assert_refused, program, run

__all__ = ["fake_code", "program", "run"]
HERE = sorted(host_features())[:2]
NOWHERE = ["no_such_feature"]


def write(path: Path, code: Path, **variants: list[str]) -> Path:
    """The fake model with the same code for processors with other features, named as these; their first step, too."""
    weights, inputs = fake.make_weights(), fake.make_inputs(8)

    def part(name: str, features: list[str]) -> dict[str, Any]:
        target = {"name": name, "triple": f"{platform.machine()}-unknown-linux-gnu", "features": features}
        return {"target": target, "code": f"code.{name}", "steps": [{"name": name, "op": "Mul"}, {"name": "select"}]}

    parts = {name: part(name, features) for name, features in variants.items()}
    manifest = fake.make_manifest(len(weights), **({"variants": parts} if parts else {}))
    more = {f"code.{name}": code.read_bytes() for name in variants}
    artifact.write(path, manifest, code.read_bytes(), weights, inputs, fake.expected(inputs), more)
    return path


@pytest.mark.parametrize(
    ("variants", "taken"),
    [
        ({"far": NOWHERE, "near": HERE, "nearer": HERE[:1]}, "near"),
        ({"far": NOWHERE, "nearer": HERE[:1], "near": HERE}, "nearer"),
        ({"far": NOWHERE, "both": [*HERE, *NOWHERE]}, "host"),
    ],
)
def test_the_first_that_runs_is_taken(
    variants: dict[str, list[str]], taken: str, tmp_path: Path, fake_code: Path, run: Run
) -> None:
    path = write(tmp_path / "m.edge", fake_code, **variants)
    inputs = fake.make_inputs(5)
    with edgert.load(path, threads=1) as model:
        assert model.manifest["target"]["name"] == taken
        np.testing.assert_array_equal(model.run(inputs)["z"], fake.expected(inputs)["z"])
    assert f"Code: for {taken}\n" in run(path, "--help").stdout
    assert run(path, "--verify").returncode == 0
    found = inspect(str(path)).data["variants"]
    assert list(found) == ["host", *reversed(variants)]
    assert [name for name, one in found.items() if one["runs"]] == [taken]


def test_a_damaged_variant_is_refused(tmp_path: Path, fake_code: Path, run: Run) -> None:
    path = write(tmp_path / "m.edge", fake_code, near=HERE)
    data = path.read_bytes()
    text = json.dumps({"name": "near", "op": "Mul"}, separators=(",", ":")).encode()
    assert data.count(text) == 1
    path.write_bytes(data.replace(text, text.replace(b"Mul", b"Mud")))
    with pytest.raises(EdgertError, match=r"variants/near\.json.*SHA-256"):
        edgert.load(path)
    assert_refused(run(path, "--verify"), 1, "variants/near.json does not match its SHA-256")


def test_names() -> None:
    assert [t.name for t in get_targets("aarch64")] == ["aarch64"]
    assert [t.name for t in get_targets("aarch64+dotprod+i8mm")] == ["aarch64", "cortex-x2", "cortex-a76"]
    named = [t.name for t in get_targets("x86-64-avx2+avx512+x86-64-avx512vnni+amx")]
    assert named == ["x86-64-avx2", "x86-64-amx", "x86-64-avx512vnni", "x86-64-avx512"]
    with pytest.raises(UsageError, match=r"behind aarch64\+ there may stand .*dotprod, i8mm, not 'avx512'"):
        get_targets("aarch64+avx512")
    with pytest.raises(UsageError, match="only artifacts for CPUs"):
        get_targets("cortex-m4+cortex-m7")


def test_a_program_takes_code_for_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--emit exe takes code for one target"):
        edgert.compile(tmp_path / "none.onnx", tmp_path / "out", target="aarch64+i8mm", emit="exe")
