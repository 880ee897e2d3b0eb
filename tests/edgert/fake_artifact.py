"""Artifacts whose code is a small C function compiled here, so that tests of the runner need no model compiler."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgert import artifact, npy

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "edgert" / "native"
ROWS, COLUMNS = 1024, 4
SCALE = np.array([2.0, -1.0, 0.5, 3.0], np.float32)


def compile_code(
    folder: Path, source: Path = HERE / "fake_model.c", *flags: str, machine: str = platform.machine()
) -> Path:
    """A freestanding shared object of `source` in `folder`."""
    out = folder / f"{source.stem}{''.join(flags)}.so"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu", "-O2", "-fPIC"]
    command += ["-ffreestanding", "-fno-sanitize=undefined", "-fno-stack-protector", "-ffp-contract=off"]
    command += ["-shared", "-nostdlib"]
    subprocess.run([*command, f"-I{NATIVE}", *flags, "-o", str(out), str(source)], check=True)
    return out


def make_manifest(weights_bytes: int, **changes: Any) -> dict[str, Any]:
    """The manifest of fake_model.c."""
    axis = {"slot": 0, "max": ROWS}
    size = ROWS * COLUMNS * 4
    return {
        "name": "fake",
        "producer": {"edgert": "test"},
        "target": {"name": "host", "triple": f"{platform.machine()}-unknown-linux-gnu", "features": []},
        "dims": [{"name": "n", "min": 1, "max": ROWS}],
        "dim_slots": 2,
        "inputs": [{"name": name, "dtype": "float32", "shape": [axis, COLUMNS], "bytes": size} for name in ("x", "y")],
        "outputs": [
            {"name": "z", "dtype": "float32", "shape": [axis, COLUMNS], "bytes": size},
            {"name": "some/positive:0", "dtype": "float32", "shape": [{"slot": 1, "max": size // 4}], "bytes": size},
        ],
        "arena_bytes": size,
        "weights_bytes": weights_bytes,
        "plan": [{"name": "copy", "offset": 0, "size": size, "first": 0, "last": 1}],
        "entry": "edgert_run",
        "steps": [{"name": "scale", "op": "Mul"}, {"name": "select", "op": "Compress"}],
        "golden": {"tolerance": 1e-6},
        **changes,
    }


def make_weights(size: int = 10_000) -> bytes:
    """The four factors, then bytes nobody reads."""
    rest = np.random.default_rng(1).integers(0, 256, size - SCALE.nbytes, np.uint8)
    return SCALE.tobytes() + rest.tobytes()


def make_inputs(rows: int = 100, seed: int = 0) -> dict[str, np.ndarray]:
    """Normal random x and y of `rows` rows."""
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal((rows, COLUMNS), np.float32) for name in ("x", "y")}


def expected(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the model must answer, bit for bit: one multiplication and one addition, each rounded."""
    z = inputs["x"] * SCALE + inputs["y"]
    return {"z": z, "some/positive:0": z[z > 0]}


def make_artifact(path: Path, code: Path, weights: bytes | None = None, **changes: Any) -> dict[str, Any]:
    """Write the fake model's artifact, with golden inputs and outputs, at `path`; gives the manifest written."""
    weights = make_weights() if weights is None else weights
    inputs = make_inputs(8)
    manifest = make_manifest(len(weights), **changes)
    return artifact.write(path, manifest, code.read_bytes(), weights, inputs, expected(inputs))


def save_inputs(folder: Path, inputs: dict[str, np.ndarray]) -> list[str]:
    """Writes arrays as .npy files; the words that hand them to a program."""
    words = []
    for name, array in inputs.items():
        file = folder / f"{npy.file_stem(name)}.npy"
        np.save(file, array)
        words += ["--input", f"{name}={file}"]
    return words


def assert_outputs(folder: Path, results: dict[str, np.ndarray]) -> None:
    """A program wrote these outputs to `folder`, byte for byte, and nothing else."""
    assert {file.name for file in folder.iterdir()} == {f"{npy.file_stem(name)}.npy" for name in results}
    for name, array in results.items():
        assert (folder / f"{npy.file_stem(name)}.npy").read_bytes() == npy.to_bytes(array)
