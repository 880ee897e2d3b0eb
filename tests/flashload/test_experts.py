"""Mixtures of experts: right answers, and of the experts only those read that a token takes and that did not stay."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnxruntime as ort
import pytest

import edgert
from edgert import runner
from flashload.plan import Plan
from tests.flashload.mixtures import BEST, EXPERT_BYTES, LAYERS, WIDTH, mixture, reference

TOKENS = 40


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    """Vectors that change slowly, as those of a text's tokens do."""
    rng = np.random.default_rng(5)
    steps = [rng.normal(size=WIDTH)]
    while len(steps) < TOKENS:
        steps.append(0.8 * steps[-1] + 0.6 * rng.normal(size=WIDTH))
    return np.array(steps, np.float32)


def opened(kept: int) -> runner.Model:
    """The mixture streamed, with room for `kept` experts of each layer."""
    model = runner.load(mixture(), 1, dram="1G")
    memory, stream = model.memory, model.artifact.spec.stream
    assert memory is not None
    assert stream is not None
    size = stream.streamed_bytes + (kept - 1) * LAYERS * (EXPERT_BYTES + 4)
    made = Plan(0, {"process": 0}, size, stream.least_ring, 256 << 10, 2, 1, 1, 1, 1, "")
    memory._made = lambda: made  # type: ignore[method-assign]
    return model


@pytest.fixture(scope="module")
def resident(walk: np.ndarray) -> Iterator[list[np.ndarray]]:
    with edgert.load(mixture(), 1) as model:
        yield [model.run({"x": row[None]})["y"].copy() for row in walk]


def test_answers(walk: np.ndarray) -> None:
    with edgert.load(mixture(), 1) as model:
        found = model.run({"x": walk[:8]})["y"]
    # float32 sums of some hundred terms beside float64
    np.testing.assert_allclose(found, reference(walk[:8]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("activation", "normalize"), [("silu", 1), ("relu", 0), ("gelu", 1)])
def test_answers_are_onnx_runtimes(walk: np.ndarray, activation: str, normalize: int) -> None:
    path = mixture(False, activation, normalize, 1)
    session = ort.InferenceSession(path.with_suffix(".onnx"), providers=["CPUExecutionProvider"])
    with edgert.load(path, 1) as model:
        found = model.run({"x": walk[:8]})["y"]
    np.testing.assert_allclose(found, session.run(None, {"x": walk[:8]})[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kept", [1, 2, 5, 16])
def test_the_bits_are_those_of_a_resident_run(walk: np.ndarray, resident: list[np.ndarray], kept: int) -> None:
    with opened(kept) as model:
        for row, wanted in zip(walk, resident, strict=True):
            np.testing.assert_array_equal(model.run({"x": row[None]})["y"], wanted)
    with opened(kept) as model, edgert.load(mixture(), 1) as whole:  # many tokens take more experts than have room
        np.testing.assert_array_equal(model.run({"x": walk[:8]})["y"], whole.run({"x": walk[:8]})["y"])


def test_experts_that_stay_are_not_read_again(walk: np.ndarray) -> None:
    read = {}
    for kept in (1, 4, 8, 16):
        with opened(kept) as model:
            for row in walk:
                model.run({"x": row[None]})
            assert model.memory is not None
            figures = model.memory.figures()
        assert figures["chosen_rows"] == TOKENS * LAYERS * BEST
        assert figures["chosen_bytes"] == figures["chosen_missing"] * EXPERT_BYTES
        read[kept] = figures["chosen_bytes"] / TOKENS
    assert read[1] == pytest.approx(LAYERS * BEST * EXPERT_BYTES, rel=0.2)  # now and then one is taken again
    assert read[1] > read[4] > read[8] > read[16]
    assert read[16] <= 16 * LAYERS * EXPERT_BYTES / TOKENS


def test_a_damaged_expert_is_told(tmp_path, walk: np.ndarray) -> None:
    data = bytearray(mixture().read_bytes())
    with edgert.load(mixture(), 1) as whole:
        stream, start = whole.artifact.spec.stream, whole.artifact.weights_offset
    assert stream is not None
    for table in stream.lookups:
        for expert in range(table.extent):
            data[start + table.offset + expert * table.bytes + 100] ^= 1
    path = tmp_path / "damaged.edge"
    path.write_bytes(data)
    with runner.load(path, 1, dram="1G") as model, pytest.raises(edgert.EdgertError, match="damaged"):
        model.run({"x": walk[:1]})
