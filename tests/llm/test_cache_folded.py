"""Caches of few bits in a compiled model: how many bytes, which rows are folded when, taken back, saved, forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgert.errors import DoesNotFit, EdgertError, UsageError
from edgert.llm.cache import SinksAndWindow
from edgert.llm.cache.folding import Folding
from edgert.llm.cache.groups import Groups
from edgert.llm.engine import CachedEngine, open_engine
from edgert.llm.generate import Generation, Options
from edgert.llm.speculate import Draft
from targets.kernels.cached_attention_formats import FORMATS
from tests.llm.small_models import LONG, artifact
from tests.llm.test_cache_engine import Text

IDS = np.random.default_rng(6).integers(0, 256, 400).tolist()
FORMS = ["i4", "i2"]
HALF = 2.0**-11  # the most by which rounding to float16 changes a normal number, relative to it


def folding_of(engine: CachedEngine) -> Folding:
    """What the engine has folded."""
    assert engine._rows.folding is not None
    return engine._rows.folding


@pytest.mark.parametrize(("form", "most"), [("i2", 0.22), ("i4", 0.345)])
@pytest.mark.parametrize(("groups", "size"), [(3, 64), (1, 256), (8, 128)])
def test_bytes_at_4096_tokens(form: str, most: float, groups: int, size: int) -> None:
    """Codes, scales and the window of SmolLM2, Gemma 3 and larger ones."""

    def total(kind: str) -> int:
        return sum(
            int(np.prod(shape)) * np.dtype(t).itemsize for shape, t in FORMATS[kind].shapes(1, groups, 4096, size)
        )

    assert total(form) <= most * total("f16")


@pytest.mark.parametrize("form", FORMS)
def test_the_engine_counts_its_bytes(form: str) -> None:
    with open_engine(artifact(LONG), 1, cache=form) as engine:
        assert engine.cache_bytes == sum(array.nbytes for array in engine._state.values())


def test_groups_in_numpy_come_back_within_half_a_step() -> None:
    groups = Groups(4, 1.0, 4, 192, 32, 128)
    rows = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32) * np.arange(1, 65)
    keys = groups.decode_keys(*groups.encode_keys(rows)).reshape(2, 2, 32, 64)
    each = rows.reshape(2, 2, 32, 64)
    # scale and least value are themselves rounded: the largest number may lie beyond the last code by that
    assert (
        np.abs(keys - each) <= np.ptp(each, 2)[:, :, None] / 15 * 0.5 + 4 * HALF * np.abs(each).max(2)[:, :, None]
    ).all()
    values = groups.decode_values(*groups.encode_values(rows))
    assert (
        np.abs(values - rows) <= np.ptp(rows, -1)[..., None] / 30 + 4 * HALF * np.abs(rows).max(-1)[..., None]
    ).all()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_folded(form: str) -> None:
    """No more than must be; the first layer's keys, which depend on token and position alone, as numpy folds them."""
    with open_engine(artifact(LONG), 1) as plain, open_engine(artifact(LONG), 1, cache=form) as engine:
        plain.chunk = engine.chunk  # kernels for other numbers of rows round otherwise
        for one in (plain, engine):
            one.prefill(IDS[:300])
            for token in IDS[300:390]:
                one.decode(token)
        folding, groups = folding_of(engine), folding_of(engine).groups
        assert folding.folded == 224 and engine.position - folding.folded <= groups.window
        keys = plain._state["cache.0"][0, 0, :, :390].astype(np.float32)
        found = folding.unpacked(0, 390)[0]
        expected = groups.decode_keys(*groups.encode_keys(keys[:, groups.sinks : groups.sinks + 224]))
        kept = np.r_[0 : groups.sinks, groups.sinks + 224 : 390]
        np.testing.assert_array_equal(found[:, kept], keys[:, kept])
        np.testing.assert_array_equal(found[:, groups.sinks : groups.sinks + 224], expected)


class Knowing:
    """Guesses the text that it was given, every fifth token wrong."""

    def __init__(self, text: list[int], start: int) -> None:
        self._text, self._start = text, start

    def draft(self, context: Sequence[int], most: int) -> Draft:
        """A chain."""
        at = len(context) - self._start
        guesses = [(token + (i % 5 == 4)) % 256 for i, token in enumerate(self._text[at : at + most], at)]
        return Draft(guesses, list(range(-1, len(guesses) - 1)))

    def observe(self, ids: Sequence[int], logits: np.ndarray) -> None:
        """Nothing is learned."""


@pytest.mark.parametrize("form", FORMS)
def test_guesses_change_no_text(form: str) -> None:
    """Also where rows are folded in between: no pass goes on beyond that."""
    texts: list[list[int]] = []
    for drafter in (None, Knowing):
        with open_engine(artifact(LONG), 1, cache=form) as engine:
            made = None if drafter is None else drafter(texts[0], 300)
            generation = Generation(engine, IDS[:300], Text(), Options(max_tokens=150), drafter=made)
            texts.append([event.token for event in generation])
            assert folding_of(engine).folded > 224
    assert texts[0] == texts[1] and generation.statistics.accepted > 100


@pytest.mark.parametrize("form", FORMS)
def test_rows_taken_back(form: str) -> None:
    """Behind what is folded, within it, before it: what is left is what it was, and folding begins there again."""
    with open_engine(artifact(LONG), 1, cache=form) as engine:
        engine.prefill(IDS[:390])
        folding = folding_of(engine)
        assert folding.folded == 224 and not engine.rewinds
        before = [folding.unpacked(i, 390) for i in range(2)]
        for kept, folded in ((380, 224), (228, 224), (227, 192), (150, 128), (37, 32), (20, 0), (3, 0)):
            engine.reset(kept)
            assert folding.folded == folded
            for i in range(2):
                # what comes back from groups is rounded to float16 once
                np.testing.assert_allclose(folding.unpacked(i, kept), before[i][:, :, :kept], rtol=HALF, atol=1e-6)
        assert engine.reuse(IDS[:3]) == 2
        engine.reset()
        first = engine.prefill(IDS[:250]).copy()
        engine.reset()
        np.testing.assert_array_equal(engine.prefill(IDS[:250]), first)


def test_chosen_branches_are_moved_in_the_window() -> None:
    with open_engine(artifact(LONG), 1, cache="i2") as engine:
        engine.prefill(IDS[:300])
        engine.verify([7, 8, 9], [-1, -1, 1])
        rows = folding_of(engine).unpacked(0, 303)
        engine.commit([1, 2])
        np.testing.assert_array_equal(folding_of(engine).unpacked(0, 302), np.delete(rows, 300, 2))
        assert engine._rows.ids[298:302].tolist() == [*IDS[298:300], 8, 9]


@pytest.mark.parametrize("form", FORMS)
def test_a_restored_cache_goes_on_with_the_same_bits(form: str, tmp_path: Path) -> None:
    path = tmp_path / "text.kv"
    with open_engine(artifact(LONG), 1, cache=form) as engine:
        engine.prefill(IDS[:250])
        engine.save(path)
        expected = [engine.decode(t).copy() for t in IDS[:40]]
    with open_engine(artifact(LONG), 1, context=300, cache=form) as engine:
        engine.prefill(IDS[30:260])
        engine.restore(path)
        assert engine.position == 250
        for token, logits in zip(IDS[:40], expected, strict=True):
            np.testing.assert_array_equal(engine.decode(token), logits)
    with (
        open_engine(artifact(LONG), 1, cache="f16") as engine,
        pytest.raises(EdgertError, match="another cache format"),
    ):
        engine.restore(path)
    with (
        open_engine(artifact(LONG), 1, context=200, cache=form) as engine,
        pytest.raises(DoesNotFit, match="250 tokens"),
    ):
        engine.restore(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("policy", [SinksAndWindow(4, 256), SinksAndWindow(0, 300), SinksAndWindow(7, 250)])
def test_a_stream_in_a_window(form: str, policy: SinksAndWindow) -> None:
    """Values that are kept do not change when others are forgotten, however rows lie in groups then."""
    with open_engine(artifact(LONG), 1, cache=form, policy=policy) as engine:
        engine.prefill((IDS * 2)[: engine.context])
        held, folding = engine.position, folding_of(engine)
        before, old = folding.unpacked(1, held)[1], folding.folded
        engine._rows.make_room(held, 1)
        gone = policy.forget(held, 1, engine.context)
        after = folding.unpacked(1, held - len(gone))[1]
        # only rows of the window that had to be folded now are stored anew
        same = min(len(after[0]), folding.groups.sinks + old - len(gone))
        np.testing.assert_allclose(
            after[:, :same], np.delete(before, slice(gone.start, gone.stop), 1)[:, :same], rtol=4 * HALF, atol=1e-3
        )
        engine.position = held - len(gone)
        for token in IDS:
            assert np.isfinite(engine.decode(token)).all()
        assert engine.position + engine.forgotten == held + len(IDS) and engine.position <= engine.context


def test_rows_of_groups_are_not_given_out() -> None:
    with open_engine(artifact(LONG), 1, cache="i2") as engine, pytest.raises(UsageError, match="fp16 or int8"):
        engine.rows(0, 32)
