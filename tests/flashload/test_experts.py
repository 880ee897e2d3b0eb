"""Mixtures of experts: right answers, and of the experts only those read that a token takes and that did not stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import edgert
from edgert import runner
from edgert.budget import streamed_text
from tests.flashload import faulty, mixtures
from tests.flashload.mixtures import BEST, EXPERT_BYTES, LAYERS, mixture, opened, reference

TOKENS = 40


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    return mixtures.walk(TOKENS)


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixtures.blind(tmp_path_factory.mktemp("blind"))


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


def figures_of(walk: np.ndarray, kept: int, path: Path) -> dict[str, int]:
    with opened(kept, path) as model:
        for row in walk:
            model.run({"x": row[None]})
        assert model.memory is not None
        assert "experts chosen" in streamed_text(model.memory.report())
        return model.memory.figures()


def test_experts_that_stay_are_not_read_again(walk: np.ndarray, blind: Path) -> None:
    read = {}
    for kept in (1, 4, 8, 16):
        figures = figures_of(walk, kept, blind)
        assert figures["chosen_rows"] == TOKENS * LAYERS * BEST
        assert figures["chosen_bytes"] == figures["chosen_missing"] * EXPERT_BYTES
        read[kept] = figures["chosen_bytes"] / TOKENS
    assert read[1] == pytest.approx(LAYERS * BEST * EXPERT_BYTES, rel=0.2)  # now and then one is taken again
    assert read[1] > read[4] > read[8] > read[16]
    assert read[16] <= 16 * LAYERS * EXPERT_BYTES / TOKENS


@pytest.mark.parametrize("kept", [3, 6])
def test_the_next_layers_experts_are_read_ahead(walk: np.ndarray, blind: Path, kept: int) -> None:
    late, early = figures_of(walk, kept, blind), figures_of(walk, kept, mixture())
    assert early["chosen_missing"] < 0.8 * late["chosen_missing"]
    assert early["chosen_bytes"] > early["chosen_missing"] * EXPERT_BYTES


@pytest.mark.parametrize("kind", [faulty.EIO_AT, faulty.END_AT, faulty.FLIP_AT])
def test_a_bad_moment_passes(walk: np.ndarray, resident: list[np.ndarray], kind: int) -> None:
    with edgert.load(mixture(), 1) as whole:
        stream, start = whole.artifact.spec.stream, whole.artifact.weights_offset
    assert stream is not None
    table, failed = stream.lookups[1], 0  # what the layer before has read ahead
    for expert in range(table.extent):
        place = start + table.offset + expert * table.bytes + 100
        with opened(4, source=faulty.Faulty(kind, place, 3 if kind == faulty.END_AT else 1)) as model:
            for row, wanted in zip(walk[:12], resident, strict=False):
                try:
                    found = model.run({"x": row[None]})["y"]
                except edgert.EdgertError:
                    failed += 1
                    found = model.run({"x": row[None]})["y"]
                np.testing.assert_array_equal(found, wanted)
    assert failed >= 4  # of sixteen those that so few tokens take


def test_a_damaged_expert_is_told(tmp_path: Path, walk: np.ndarray) -> None:
    data = bytearray(mixture().read_bytes())
    with edgert.load(mixture(), 1) as whole:
        stream, start = whole.artifact.spec.stream, whole.artifact.weights_offset
    assert stream is not None
    for table in stream.lookups:
        for expert in range(table.extent):
            data[start + table.offset + expert * table.bytes + 100] ^= 1
    path = tmp_path / "damaged.edge"
    path.write_bytes(data)
    with runner.load(path, 1, dram="64G") as model, pytest.raises(edgert.EdgertError, match="damaged"):
        model.run({"x": walk[:1]})
