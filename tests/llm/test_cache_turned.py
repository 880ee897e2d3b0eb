"""Keys of a compiled model's cache after rows moved down: what the model would have written there."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.decoder import open_gguf
from edgert.llm.cache import SinksAndWindow
from edgert.llm.cache.codecs import CODECS
from edgert.llm.cache.turn import Turner
from edgert.llm.engine import CachedEngine, open_engine
from tests.llm.small_models import artifact, gguf
from tests.llm.test_cache_policies import HALF

IDS = np.random.default_rng(5).integers(0, 256, 32)
SINKS, WINDOW, GONE = 4, 28, 7  # a quarter of the window
CASES = ["llama", pytest.param("gemma3", marks=pytest.mark.slow), pytest.param("phi3", marks=pytest.mark.slow)]


def _rows(engine: CachedEngine, layer: int, kind: int) -> np.ndarray:
    """float32 [groups, rows in use, size] keys (0) or values (1)."""
    codec = CODECS[engine.model.manifest["decoder"]["cache"]]
    names = [f"cache.{layer}", *(f"cache.{layer}.{n}" for n in range(1, codec.arrays))]
    return codec.decode([engine._state[name][0, kind, :, : engine.position] for name in names]).copy()


def _step(form: str, keys: np.ndarray) -> np.ndarray:
    """By how much storing a turned key in a format may change it, per row."""
    largest = np.linalg.norm(keys, axis=-1, keepdims=True)  # turning may bring a pair's length into one element
    return {"f16": HALF * largest, "i8": largest / 127 / 2}[form]


# phi3, of whose heads a part turns: in float16 alone, as formats make no difference to which part
@pytest.mark.parametrize(
    "case, form",
    [
        *(("llama", form) for form in CODECS),
        *(pytest.param("gemma3", form, marks=pytest.mark.slow) for form in CODECS),
        pytest.param("phi3", "f16", marks=pytest.mark.slow),
    ],
)
def test_every_layer_turns_as_its_rope_says(case: str, form: str) -> None:
    ropes = open_gguf(gguf(case)).decoder.ropes
    with open_engine(artifact(case), 1, cache=form, policy=SinksAndWindow(SINKS, WINDOW)) as engine:
        engine.prefill(IDS)
        before = {(i, kind): _rows(engine, i, kind) for i in range(len(ropes)) for kind in (0, 1)}
        assert engine.position == SINKS + WINDOW
        engine.decode(7)
        assert (engine.position, engine.forgotten) == (SINKS + WINDOW - GONE + 1, GONE)
        for i, rope in enumerate(ropes):
            for kind in (0, 1):
                expected = np.delete(before[i, kind], slice(SINKS, SINKS + GONE), 1)
                found = _rows(engine, i, kind)[:, :-1]
                np.testing.assert_array_equal(found[:, :SINKS], expected[:, :SINKS])
                if kind == 1:
                    np.testing.assert_array_equal(found, expected)
                    continue
                half = rope.dims // 2
                a = np.arange(0, rope.dims, 2) if rope.interleaved else np.arange(half)
                b = a + (1 if rope.interleaved else half)
                pairs = (expected[:, SINKS:, a] + 1j * expected[:, SINKS:, b]) * np.exp(-1j * GONE * rope.frequencies())
                exact = expected.astype(np.float64)
                exact[:, SINKS:, a], exact[:, SINKS:, b] = pairs.real, pairs.imag
                assert (np.abs(found - exact) <= _step(form, exact) + 1e-6).all()
                assert np.abs(exact - expected).max() > 20 * HALF * np.abs(exact).max()  # they do turn


@pytest.mark.parametrize("case", CASES)
def test_moved_down_equals_run_there(case: str) -> None:
    """The first layer's rows depend on their token and position alone: those of a text without the forgotten tokens."""
    path = artifact(case)
    with open_engine(path, 1, policy=SinksAndWindow(SINKS, WINDOW)) as engine, open_engine(path, 1) as fresh:
        engine.prefill(IDS)
        engine.decode(7)
        fresh.prefill(np.delete(np.append(IDS, 7), slice(SINKS, SINKS + GONE)))
        for kind in (0, 1):
            found, expected = _rows(engine, 0, kind), _rows(fresh, 0, kind)
            # rounded when written, when turned, and when written by the other; a pair's length bounds its elements
            bound = 3 * HALF * np.linalg.norm(expected, axis=-1, keepdims=True) + 1e-5
            assert (np.abs(found - expected) <= bound).all()


@pytest.mark.parametrize("case", CASES)
def test_the_same_at_other_positions(case: str) -> None:
    """Attention depends on distances alone: a text at positions 9 higher, turned back by 9, is the text, in all layers.

    In later layers activations pass through 8-bit codes, where a last bit that differs can move a code by one; keys
    turned by a wrong frequency are off by as much as they are large."""
    with open_engine(artifact(case), 1) as engine, open_engine(artifact(case), 1) as high:
        engine.prefill(IDS[:24])
        given = {"ids": IDS[:24], "positions": np.arange(9, 33), "past": np.zeros(1, np.int64)}
        given |= {"seen": np.tri(24, dtype=np.uint8), "rows": np.zeros(1, np.int64)}
        high.model.run({**given, **high._state})
        high.position = 24
        # as if nine rows before the first had been forgotten
        moved = {name: np.zeros((*a.shape[:3], 33, *a.shape[4:]), a.dtype) for name, a in high._state.items()}
        for name, array in high._state.items():
            moved[name][:, :, :, 9:33] = array[:, :, :, :24]
        Turner(high.model.manifest["decoder"]).move_down(moved, range(9), 33)
        for name in engine._state:
            found, expected = (a[0, 0, :, :24].astype(np.float32) for a in (moved[name], engine._state[name]))
            share = 3 * HALF if name == "cache.0" else 0.05
            bound = share * np.linalg.norm(expected, axis=-1, keepdims=True) + 1e-5
            assert (np.abs(found - expected) <= bound).all(), name


def test_numpy_stores_rows_as_the_kernels_do() -> None:
    """The first layer's rows in every format, from the float16 ones, which differ from what was stored by rounding."""
    with open_engine(artifact(), 1) as engine:
        engine.prefill(IDS)
        exact = engine._state["cache.0"][0, :, :, : len(IDS)].astype(np.float32)
    for form, codec in CODECS.items():
        with open_engine(artifact(), 1, cache=form) as engine:
            engine.prefill(IDS)
            names = ["cache.0", *(f"cache.0.{n}" for n in range(1, codec.arrays))]
            stored = [engine._state[name][0, :, :, : len(IDS)] for name in names]
        coded = codec.encode(exact)
        same = [(a.view(np.uint8) == b.view(np.uint8)).mean() for a, b in zip(coded[:1], stored[:1], strict=True)]
        assert min(same) > 0.97, (form, same)
        # a code may fall on the other side of a tie, and scales follow the largest number's rounding
        share = {"f16": 0, "i8": 1 / 127 + HALF}[form]
        bound = share * 1.01 * np.abs(exact).max(-1, keepdims=True)
        assert (np.abs(codec.decode(coded) - codec.decode(stored)) <= bound).all()
