"""Attention over a cache of groups of few bits against numpy: what is folded, what is stored, what is read."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

from edgert.llm.cache.folding import Folding
from edgert.llm.cache.groups import Groups
from targets.kernels.cached_attention_formats import FORMATS
from targets.target import Target

from .cached_case import HALF, STATE, Case, attend, call_of, causal, prepare, rope, unit_of, visible
from .kernel_case import ISAS

LAYER = 1  # of two: call_of's


def hadamard(size: int, span: int) -> np.ndarray:
    """Sylvester's matrix of `span`, orthonormal, for each span of a row of `size`."""
    block = np.ones((1, 1))
    while len(block) < span:
        block = np.block([[block, block], [block, -block]])
    return np.kron(np.eye(size // span), block * span**-0.5)


def made(case: Case, folded: tuple[int, int]) -> dict[str, np.ndarray]:
    """Random inputs; rows of the cache that are in no use hold NaN or random bytes."""
    rng = np.random.default_rng(case.rows * 1000 + case.past)
    rows, past, width = case.rows, case.past, case.groups * case.size
    half = (case.rotary or case.size) // 2
    angle = np.arange(past + rows + 1)[:, None] * 10000.0 ** (-np.arange(half) / half)
    floats = {"q": (rows, case.heads * case.size), "k": (rows, width), "v": (rows, width)}
    arrays: dict[str, np.ndarray] = {n: rng.normal(size=shape).astype(np.float32) for n, shape in floats.items()}
    kinds = FORMATS[case.format].shapes(case.layers, case.groups, max(64, past + rows + case.spare), case.size)
    state = [
        (rng.normal(size=shape) if i == 0 else np.abs(rng.normal(size=shape))).astype(dtype)
        if dtype == "float16" else rng.integers(0, 256, shape).astype(dtype)
        for i, (shape, dtype) in enumerate(kinds)
    ]  # fmt: skip
    state[0][:, :, :, past - folded[0] :] = np.nan
    state[2][:, :, :, folded[0] :] = np.nan
    arrays |= {"cache": state[0], "past": np.array([past]), "positions": past + np.arange(rows), "seen": causal(rows)}
    arrays |= {"cos": np.cos(angle).astype(np.float32), "sin": np.sin(angle).astype(np.float32)}
    arrays |= dict(zip(STATE[3:], state[1:], strict=True))
    return arrays | {"folded": np.array(folded)}


def run(case: Case, folded: tuple[int, int], target: Target) -> dict[str, np.ndarray]:
    """One call against the reference; the cache afterwards."""
    arrays = made(case, folded)
    s, c = tirx.Var("s", "int64"), tirx.Var("c", "int64")
    dims = {"s": case.rows, "c": arrays["codes"].shape[3]}
    shapes = {n: (s, *arrays[n].shape[1:]) for n in ("q", "k", "v", "positions")} | {"seen": (s, s)}
    shapes |= {n: tuple(c if i == 3 else d for i, d in enumerate(arrays[n].shape)) for n in STATE[3:]}
    stages, leaves, results = call_of(target, arrays, case, shapes)
    call, buffers = prepare(stages, leaves, results, arrays, target, dims)
    call()
    out, *after = (buffers[id(t)] for t in results)
    state = dict(zip([n for n in STATE if n in arrays], after, strict=True))
    groups = Groups.of(FORMATS[case.format].facts())
    assert groups is not None
    folding = expected(arrays, case, groups, folded)
    new = slice(case.past - folded[1], case.past - folded[1] + case.rows)
    tables = arrays["positions"], arrays["cos"], arrays["sin"], case.interleaved
    q, k = (rope(arrays[n].reshape(case.rows, -1, case.size), *tables) for n in "qk")
    mixing = hadamard(case.size, 64 if case.size % 64 == 0 else 32)
    stored = np.stack([k, arrays["v"].reshape(k.shape) @ mixing]).transpose(0, 2, 1, 3)
    found = state["cache"][LAYER][:, :, new]
    assert np.abs(found - stored).max() <= 8 * HALF  # of numbers up to 8
    arrays["cache"][LAYER][:, :, new] = found
    held = case.past + case.rows
    for name in state:  # the other layer, and what is in no use, are untouched
        used = held - folded[1] if name == "cache" else folded[1]
        assert state[name][0].tobytes() == arrays[name][0].tobytes(), name
        if name != "cache":
            assert state[name][LAYER][:, :, used:].tobytes() == arrays[name][LAYER][:, :, used:].tobytes(), name
        assert state[name][LAYER][:, :, :used].tobytes() == arrays[name][LAYER][:, :, :used].tobytes(), name
    rows = folding.unpacked(LAYER, held).astype(np.float64)
    sees = visible(case.past, arrays["positions"], arrays["seen"], case.window)
    keys, values = (rows[kv].transpose(1, 0, 2) for kv in (0, 1))
    exact, bound = attend(q * case.size**-0.5, keys, values, sees, unit_of(case, target))
    # mixing sums a span of results once more, and so their errors
    bound = np.sqrt((bound**2).sum(-1, keepdims=True)) * np.ones(case.size)
    error = np.abs(out.reshape(exact.shape) - exact @ mixing)
    assert (error <= bound).all(), (error / bound).max()
    return state


def expected(arrays: dict[str, np.ndarray], case: Case, groups: Groups, folded: tuple[int, int]) -> Folding:
    """Folds in `arrays` what the call is to fold; where its rows are then."""
    count, window = folded[1] - folded[0], arrays["cache"][LAYER]
    old = window[:, :, groups.sinks : groups.sinks + count].astype(np.float32)
    coded = groups.encode_keys(old[0]), groups.encode_values(old[1])
    for kv, (codes, factors) in enumerate(coded):
        arrays["codes"][LAYER][kv, :, folded[0] : folded[1]] = codes
        arrays[("key_factors", "value_factors")[kv]][LAYER][0, :, folded[0] : folded[1]] = factors
    if count:
        window[:, :, groups.sinks : -count] = window[:, :, groups.sinks + count :].copy()
    names = [n for n in STATE if n in arrays]
    parts = {f"cache.{LAYER}" + (f".{i}" if i else ""): arrays[n][LAYER : LAYER + 1] for i, n in enumerate(names)}
    parts |= {f"cache.0{'.' + str(i) if i else ''}": arrays[n][:1] for i, n in enumerate(names)}
    folding = Folding(groups, parts, 2)
    folding.counts[:] = folded[1]
    return folding


CASES = [  # past, folded before and in the call
    (0, (0, 0)), (2, (0, 0)), (150, (0, 0)), (180, (0, 32)), (170, (32, 32)), (300, (160, 224)), (500, (320, 448)),
]  # fmt: skip


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("rows", [1, 12, 40])
def test_rows_after_a_past(target: Target, rows: int) -> None:
    """Nothing folded, some of it in this call, in both kernels."""
    for past, folded in CASES:
        run(Case(rows, past, heads=6, groups=2, format="i2"), folded, target)


@pytest.mark.slow
@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("form", ["i4", "i2"])
@pytest.mark.parametrize(("heads", "size", "rotary"), [(1, 32, 0), (4, 256, 0), (3, 96, 24)])
def test_heads(target: Target, form: str, heads: int, size: int, rotary: int) -> None:
    """Heads of other sizes, and a window of attention that begins among what is folded."""
    for rows, past, folded in ((1, 300, (128, 192)), (5, 191, (0, 32)), (20, 270, (96, 128))):
        run(Case(rows, past, heads, 1, size, rotary, format=form), folded, target)
    run(Case(3, 300, heads, 1, size, rotary, 100, format=form), (192, 224), target)


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize("given", [(0, 1 << 40), (1 << 40, 1 << 41), (-5, 7), (64, 32)])
def test_senseless_counts_stay_within_the_cache(target: Target, given: tuple[int, int]) -> None:
    """Whatever is said to be folded: no fault, and nothing but this layer's rows is written."""
    case = Case(2, 300, groups=1, format="i2")
    arrays = made(case, (128, 160)) | {"folded": np.array(given)}
    stages, leaves, results = call_of(target, arrays, case, {})
    call, buffers = prepare(stages, leaves, results, arrays, target, {})
    call()
    for name, t in zip([n for n in STATE if n in arrays], results[1:], strict=True):
        assert buffers[id(t)][0].tobytes() == arrays[name][0].tobytes()
