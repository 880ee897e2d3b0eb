"""Weights read while a model runs: the bits of a resident run, whatever stays in memory, and clear ends of failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert import budget, runner
from edgert.errors import DoesNotFit, EdgertError, UsageError
from edgert.llm.engine import CachedEngine
from flashload.layout import PAGE
from flashload.plan import Plan
from flashload.visits import chosen, ring_jobs
from tests.flashload.networks import WIDTH, decoder, mlp
from tests.llm.small_models import VOCAB

Opened = Callable[..., runner.Model]


def planned(model: runner.Model, pinned: float, ring: int, depth: int = 2, block: int = 256 << 10) -> runner.Model:
    """`model` with a share of its weights pinned and a ring of so many bytes more than the least."""
    weights, stream = model.memory, model.artifact.spec.stream
    assert weights is not None
    assert stream is not None
    size = int(stream.streamed_bytes * pinned)
    made = Plan(0, {"process": 0}, size, stream.least_ring + ring, block, depth, 1, 1, 1, 1, "")
    weights._made = lambda: made  # type: ignore[method-assign]
    return model


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(33, WIDTH)).astype(np.float32)


@pytest.fixture
def streamed() -> Iterator[Opened]:
    made = []

    def make(
        pinned: float = 0.0, ring: int = 0, threads: int = 1, path: Path | None = None, **more: int
    ) -> runner.Model:
        model = planned(runner.load(path or mlp(), threads, dram="64G"), pinned, ring, **more)
        made.append(model)
        return model

    yield make
    for model in made:
        model.close()
    assert not [t for t in threading.enumerate() if "edgert" in t.name]


@pytest.mark.parametrize("pinned", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize(("ring", "depth", "block"), [(0, 1, 4096), (PAGE, 2, 256 << 10), (3 << 20, 4, 1 << 20)])
def test_the_bits_are_those_of_a_resident_run(
    streamed: Opened, rows: np.ndarray, pinned: float, ring: int, depth: int, block: int
) -> None:
    with edgert.load(mlp(), threads=1) as resident:
        model = streamed(pinned, ring, depth=depth, block=block)
        for count in (1, 33, 2, 1, 7):
            given = {"x": rows[:count]}
            np.testing.assert_array_equal(model.run(given)["y"], resident.run(given)["y"])


def test_threads_share_streamed_steps(streamed: Opened, rows: np.ndarray) -> None:
    with edgert.load(mlp(), threads=1) as resident:
        wanted = resident.run({"x": rows})["y"]
    model = streamed(0.2, 1 << 20, threads=3)
    for _ in range(5):
        np.testing.assert_array_equal(model.run({"x": rows})["y"], wanted)


def test_each_run_reads_what_the_plan_says(streamed: Opened, rows: np.ndarray) -> None:
    model = streamed(0.5, 1 << 20)
    stream = model.artifact.spec.stream
    assert stream is not None
    assert model.memory is not None
    expected = sum(map(sum, ring_jobs(stream, chosen(stream, int(stream.streamed_bytes * 0.5)))))
    assert 0.4 < expected / stream.streamed_bytes < 0.7
    counts = []
    for _ in range(6):
        model.run({"x": rows[:1]})
        counts.append(model.memory.figures()["read_bytes"])
    ring = model.memory.figures()["ring_bytes"]  # so much may be read ahead
    assert abs(counts[-1] - counts[0] - 5 * expected) <= ring


@pytest.mark.parametrize("pinned", [0.0, 0.6])
def test_rows_of_a_table_are_looked_up(streamed: Opened, pinned: float) -> None:
    ids = np.random.default_rng(4).integers(0, VOCAB, 40)
    with CachedEngine(runner.load(decoder(), 1)) as resident, CachedEngine(streamed(pinned, path=decoder())) as engine:
        np.testing.assert_array_equal(engine.prefill(ids), resident.prefill(ids))
        for token in (5, VOCAB - 1, 5, 0):
            np.testing.assert_array_equal(engine.decode(token), resident.decode(token))
        assert engine.model.memory is not None
        figures = engine.model.memory.figures()
    assert figures["lookups"] == 44
    assert figures["lookup_reads"] <= 43 if pinned == 0.0 else figures["lookup_reads"] < 40


def test_what_an_engine_makes_counts() -> None:
    with CachedEngine(runner.load(decoder(), 1, dram="64G")) as engine:
        weights = engine.model.memory
        assert weights is not None
        assert weights.plan.parts["KV cache"] == engine.cache_bytes
        engine.prefill([1, 2, 3])
        before = weights.plan.parts["inputs and outputs"]
        wanted = engine.verify(range(20)).copy()
        assert weights.plan.parts["inputs and outputs"] == 20 * VOCAB * 4 > before
    with CachedEngine(runner.load(decoder(), 1)) as resident:
        resident.prefill([1, 2, 3])
        np.testing.assert_array_equal(resident.verify(range(20)), wanted)


@pytest.mark.parametrize("ring", [0, 3 << 20])
def test_a_prompt_in_chunks_leaves_the_output_layer_alone(streamed: Opened, ring: int) -> None:
    ids = np.random.default_rng(4).integers(0, VOCAB, 40)
    with CachedEngine(runner.load(decoder(), 1)) as resident:
        resident.chunk = 7
        resident._headless = False
        wanted, after = resident.prefill(ids).copy(), resident.decode(3).copy()
    with CachedEngine(streamed(0.3, ring, path=decoder())) as engine:
        engine.chunk = 7
        assert engine._headless
        np.testing.assert_array_equal(engine.prefill(ids), wanted)
        np.testing.assert_array_equal(engine.decode(3), after)


def test_a_running_model_shrinks_and_grows(streamed: Opened, rows: np.ndarray) -> None:
    model = streamed(0.9)
    wanted = model.run({"x": rows})["y"]
    for pinned in (0.1, 1.0, 0.0):
        planned(model, pinned, 0).resize("32G")
        np.testing.assert_array_equal(model.run({"x": rows})["y"], wanted)
    with pytest.raises(UsageError, match="one session"):
        model.clone()


def test_budgets_that_do_not_fit() -> None:
    with pytest.raises(DoesNotFit, match=r"mlp\.edge: needs at least \d+ bytes \(process .*\), the budget is 1048576"):
        edgert.load(mlp(), dram="1M")
    free = budget.memory()["rss_anon"] or 0
    with edgert.load(mlp(), dram="auto") as model:
        assert model.memory is not None
        assert model.memory.plan.budget > free
        with pytest.raises(DoesNotFit):
            model.resize("1M")
        model.run({"x": np.zeros((1, WIDTH), np.float32)})


def _damaged(folder: Path, change: Callable[[bytearray, int, int], None]) -> Path:
    """A copy of the artifact; change(bytes, start, size of weights.bin)."""
    data = bytearray(mlp().read_bytes())
    with edgert.load(mlp()) as model:
        change(data, model.artifact.weights_offset, model.artifact.spec.weights_bytes)
    (folder / "d.edge").write_bytes(data)
    return folder / "d.edge"


@pytest.mark.parametrize("pinned", [0.0, 1.0])
def test_a_flipped_byte_is_noticed(streamed: Opened, tmp_path: Path, rows: np.ndarray, pinned: float) -> None:
    def flip(data: bytearray, start: int, size: int) -> None:
        data[start + size // 2] ^= 1

    model = streamed(pinned, path=_damaged(tmp_path, flip))
    for _ in range(2):
        with pytest.raises(
            EdgertError, match=r"d\.edge: segment \d+ of the weights, at byte \d+ of the file, is damaged"
        ):
            model.run({"x": rows})


def test_changes_under_a_running_model_are_noticed(streamed: Opened, tmp_path: Path, rows: np.ndarray) -> None:
    path = _damaged(tmp_path, lambda data, start, size: None)
    model = streamed(path=path)
    wanted = model.run({"x": rows})["y"]
    with path.open("r+b") as file:
        at = model.artifact.weights_offset + model.artifact.spec.weights_bytes // 2
        file.seek(at)
        before = file.read(1)
        file.seek(at)
        file.write(bytes([before[0] ^ 1]))
    with pytest.raises(EdgertError, match="is damaged"):
        for _ in range(3):  # the ring may hold what was right
            model.run({"x": rows})
    with path.open("r+b") as file:
        file.seek(at)
        file.write(before)
    np.testing.assert_array_equal(model.run({"x": rows})["y"], wanted)
    with path.open("r+b") as file:
        file.truncate(model.artifact.weights_offset + PAGE)
    with pytest.raises(EdgertError, match=r"weights at byte \d+ of the file: the file ends there"):
        for _ in range(3):
            model.run({"x": rows})
