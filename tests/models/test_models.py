"""The six models from registry packages, end to end against ONNX Runtime on real inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert.cpu import architecture, triple_architecture
from edgert.opencl.device import device_count
from targets import all_targets, host_features
from tests.models.real import MODELS, compiled, inputs, pictures, session

pytestmark = [pytest.mark.registry, pytest.mark.slow]

# of the output's range. float32 has 6e-8 of relative error an operation; chains of some fifty layers with sums of up
# to some thousand terms, in another order than ONNX Runtime's, stay well below
TOLERANCE = 1e-4
# of the output's range, where values and weights are rounded to 11 bits: 5e-4 each, up to some fifty times in a row
HALVES = 1e-2


# others are run by emulators and simulators: tests/devices, tests/models/test_runner.py, tests/mcu
MINE = sorted(t.name for t in all_targets().values() if triple_architecture(t.triple) == architecture())


def targets() -> list[str]:
    return [t.name for t in all_targets().values() if t.features and host_features() >= set(t.features)]


@pytest.mark.parametrize("target", MINE)
@pytest.mark.parametrize("name", MODELS)
def test_answers_equal_onnxruntimes(name: str, target: str, tmp_path: Path) -> None:
    if target not in targets():
        pytest.skip(f"this machine's CPU lacks {target}'s features")
    half = target == "opencl-fp16"
    if target.startswith("opencl") and not device_count():
        pytest.skip("no OpenCL device (pip: pyopencl[pocl])")
    source, artifact = compiled(name, tmp_path, target)
    reference = session(source)
    with edgert.load(artifact, threads=2) as model:
        for feeds in inputs(name, source)[: 3 if half else None]:
            got = model.run(feeds)
            wanted = dict(zip([o.name for o in reference.get_outputs()], reference.run(None, feeds), strict=True))
            for output, value in wanted.items():
                assert got[output].shape == value.shape and got[output].dtype == value.dtype
                span = float(np.ptp(value)) or float(np.abs(value).max()) or 1.0
                errors = np.abs(got[output].astype(np.float64) - value) / span
                error = float(errors.max())
                assert error <= (HALVES if half else TOLERANCE), f"{name} {output}: {error:.2e} of the range"


@pytest.mark.parametrize("name", ["mobilenet-v2", "efficientnet-lite0"])
def test_top1_is_onnxruntimes_on_labelled_pictures(name: str, tmp_path: Path) -> None:
    source, artifact = compiled(name, tmp_path)
    reference = session(source)
    right = 0
    with edgert.load(artifact) as model:
        for image, label in pictures(224, str(source)):
            got = int(model.run({"input": image})["logits"].argmax())
            assert got == int(reference.run(None, {"input": image})[0].argmax())
            right += got == label
    assert right >= 17, f"{right} of 20 pictures classified right"


def test_artifact_verifies_itself(tmp_path: Path) -> None:
    source, artifact = compiled("magika", tmp_path)
    from click.testing import CliRunner

    from edgert.cli import main

    done = CliRunner().invoke(main, ["verify", str(artifact)])
    assert done.exit_code == 0, done.output
    assert source.exists()
