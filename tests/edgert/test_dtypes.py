"""Every element type and the odd shapes, through runner and program, bit for bit."""

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import edgert
from edgert import artifact, dtypes, exe, npy
from edgert.errors import UsageError
from tests.edgert import fake_artifact as fake

SHAPES = {"matrix": (2, 3), "scalar": (), "empty": (0, 4), "vector": (5,)}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with one input and one output of every type in every shape, and golden data for all."""
    folder = tmp_path_factory.mktemp("copy")
    code = fake.compile_code(folder, fake.HERE / "copy_model.c")
    tensors = [
        {
            "name": f"{dtype} {shape}",
            "dtype": dtype,
            "shape": list(extents),
            "bytes": int(np.prod(extents)) * dtypes.item_size(dtype),
        }
        for dtype in sorted(dtypes.NAMES)
        for shape, extents in SHAPES.items()
    ]
    weights = np.array([len(tensors), *(tensor["bytes"] for tensor in tensors)], np.int64).tobytes()
    manifest = fake.make_manifest(len(weights), dims=[], dim_slots=0, inputs=tensors, steps=[])
    manifest["outputs"] = [{**tensor, "name": f"{tensor['name']} out"} for tensor in tensors]
    inputs = make_inputs(tensors)
    outputs = {f"{name} out": array for name, array in inputs.items()}
    artifact.write(folder / "copy.edge", manifest, code.read_bytes(), weights, inputs, outputs)
    return folder / "copy.edge"


def make_inputs(tensors: list[dict]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    inputs = {}
    for tensor in tensors:
        values = generator.integers(0, 2 if "bool" in tensor["dtype"] else 8, tensor["shape"])
        inputs[tensor["name"]] = np.asarray(values).astype(dtypes.array_dtype(tensor["dtype"]))
    return inputs


def test_every_type_goes_through_the_runner(copies: Path) -> None:
    with edgert.load(copies) as model:
        inputs, expected = model.artifact.golden()
        results = model.run(inputs)
    assert len(results) == len(dtypes.NAMES) * len(SHAPES)
    for name, array in results.items():
        assert array.dtype == dtypes.array_dtype(name.split()[0]), name
        assert array.shape == SHAPES[name.split()[1]], name
        assert array.tobytes() == expected[name].tobytes() == inputs[name.removesuffix(" out")].tobytes(), name


def test_raw_bits_are_taken_for_types_numpy_lacks(copies: Path) -> None:
    with edgert.load(copies) as model:
        inputs, _ = model.artifact.golden()
        raw = {name: array.view(dtypes.bits_dtype(name.split()[0])) for name, array in inputs.items()}
        results = model.run(raw)
        assert results["bfloat16 matrix out"].dtype == ml_dtypes.bfloat16
        for wrong in (
            np.zeros((2, 3), np.float16),
            np.zeros((2, 3), np.int16),
            np.zeros((2, 3), ml_dtypes.float8_e5m2),
        ):
            with pytest.raises(UsageError, match=r"'bfloat16 matrix' is .*, expected bfloat16"):
                model.run({**raw, "bfloat16 matrix": wrong})
    for name, array in results.items():
        assert array.tobytes() == inputs[name.removesuffix(" out")].tobytes(), name


def test_without_ml_dtypes_there_are_raw_bits(copies: Path) -> None:
    program = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "import edgert\n"
        f"model = edgert.load({str(copies)!r})\n"
        "results = model.run(model.artifact.golden()[0])\n"
        "print(results['bfloat16 matrix out'].dtype, results['float8_e5m2 vector out'].dtype)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "uint16 uint8\n"


def test_every_type_goes_through_the_program(tmp_path: Path, copies: Path) -> None:
    program = exe.build(copies, tmp_path / "copy")
    with edgert.load(copies) as model:
        inputs, _ = model.artifact.golden()
        results = model.run(inputs)
    command: list[str | Path] = [program, "--output", tmp_path / "out"]
    for name, array in inputs.items():
        (tmp_path / f"{npy.file_stem(name)}.npy").write_bytes(npy.to_bytes(array))
        command += ["--input", f"{name}={tmp_path / npy.file_stem(name)}.npy"]
    subprocess.run(command, check=True)
    for name, array in results.items():
        assert (tmp_path / "out" / f"{npy.file_stem(name)}.npy").read_bytes() == npy.to_bytes(array), name
    verified = subprocess.run([program, "--verify"], capture_output=True, text=True, check=True)
    assert verified.stdout.count("passed") == len(results)
