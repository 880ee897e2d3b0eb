"""What policies decide, how rows are stored, and how keys turn: without a compiled model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.errors import DoesNotFit, UsageError
from edgert.llm.cache import Keep, SinksAndWindow
from edgert.llm.cache.codecs import CODECS
from edgert.llm.cache.rows import CacheRows
from edgert.llm.cache.turn import Rotation, Turner

HALF = 2.0**-11  # the most by which rounding to float16 changes a normal number, relative to it


@given(st.integers(0, 8), st.integers(1, 40), st.lists(st.integers(1, 20), max_size=60))
def test_never_more_rows_than_there_are(sinks: int, window: int, passes: list[int]) -> None:
    policy = SinksAndWindow(sinks, window)
    rows = policy.rows(1000)
    held, text = 0, 0
    for wanted in passes:
        more = min(wanted, policy.at_once(rows))
        gone = policy.forget(held, more, rows)
        if gone:
            assert held + more > rows and gone.start == sinks and gone.stop <= held
        held += more - len(gone)
        text += more
        assert held <= rows == sinks + window
        # the sinks and at least a quarter of the window are there, if the text has that many
        assert held >= min(text, sinks + window // 4)


def test_keep_refuses_what_does_not_fit() -> None:
    assert not Keep().forget(10, 6, 16)
    with pytest.raises(DoesNotFit, match="17 tokens do not fit a context of 16"):
        Keep().forget(10, 7, 16)


def test_wrong_numbers_are_refused() -> None:
    for sinks, window in ((-1, 8), (4, 0)):
        with pytest.raises(UsageError, match="give 0 or more and 1 or more"):
            SinksAndWindow(sinks, window)
    with pytest.raises(UsageError, match="need a context of 1024 tokens, there are 512"):
        SinksAndWindow().rows(512)


def test_an_artifact_that_cannot_forget_is_refused() -> None:
    with pytest.raises(UsageError, match="this artifact does not tell how its keys turn"):
        Turner({"cache": "f16"})
    with pytest.raises(UsageError, match="format other cannot be turned"):
        Turner({"cache": "other"})


@pytest.mark.parametrize("form", CODECS)
def test_rows_come_back_within_half_a_step(form: str) -> None:
    rows = np.random.default_rng(0).standard_normal((3, 5, 64)).astype(np.float32) * 4
    rows[1, 2] = 0
    back = CODECS[form].decode(CODECS[form].encode(rows))
    if form == "f16":
        step = np.abs(rows) * 2 * HALF
    else:
        step = np.abs(rows).max(-1, keepdims=True) / 127
    assert (np.abs(back - rows) <= step * 0.501).all()
    again = CODECS[form].decode(CODECS[form].encode(back))
    # a second time only the scale's last bits may change
    np.testing.assert_allclose(again, back, rtol=0, atol=4 * HALF * np.abs(rows).max())


@pytest.mark.parametrize("interleaved", [False, True])
def test_turning_is_multiplying_complex_numbers(interleaved: bool) -> None:
    keys = np.random.default_rng(1).standard_normal((2, 3, 16)).astype(np.float32)
    frequencies = 100.0 ** -np.linspace(0, 1, 4)
    turned = Rotation(8, interleaved, frequencies).turned(keys, -5)
    pairs = [(2 * j, 2 * j + 1) if interleaved else (j, 4 + j) for j in range(4)]
    for j, (a, b) in enumerate(pairs):
        exact = (keys[..., a] + 1j * keys[..., b]) * np.exp(-5j * frequencies[j])
        # three float32 roundings of numbers up to the pair's length
        np.testing.assert_allclose(turned[..., a] + 1j * turned[..., b], exact, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(turned[..., 8:], keys[..., 8:])


def test_rows_know_their_tokens() -> None:
    facts = {
        "rotations": [{"dims": 4, "interleaved": False, "frequencies": [1.0, 0.1]}],
        "rotation_of_layer": [0],
    }
    state = {"cache.0": np.zeros((1, 2, 1, 12, 4), np.float16)}
    state["cache.0"][0, 1, 0, :, 0] = range(12)  # values that say where they stood
    rows = CacheRows(state, facts, 12, SinksAndWindow(2, 10))
    rows.put(0, np.arange(100, 112))
    assert rows.common(12, [*range(100, 112)]) == 11  # one is left to run
    assert rows.common(12, [100, 101, 7, 103]) == 2 and rows.common(12, [7]) == 0 and rows.common(0, [100, 101]) == 0
    assert rows.make_room(10, 2) == 10 and rows.forgotten == 0
    assert rows.make_room(12, 4) == 8  # four are lacking, more than a quarter of the window
    assert rows.ids[:8].tolist() == [100, 101, *range(106, 112)] and rows.forgotten == 4
    assert state["cache.0"][0, 1, 0, :8, 0].tolist() == [0, 1, *range(6, 12)]
    assert rows.common(8, [100, 101, 106, 107]) == 2  # what follows the gap was computed after tokens that are gone
    rows.cut(5)
    assert rows.forgotten == 4
    rows.cut(2)
    assert rows.forgotten == 0
