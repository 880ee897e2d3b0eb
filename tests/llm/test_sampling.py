"""Sampling: the filters against plain definitions with a full sort, and what the options promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgert.errors import EdgertError, UsageError
from edgert.llm.sampling import Sampler, SamplingOptions, best, candidates, penalised, softmax

# Few distinct values, so that ties are common; long enough for the folded way as well as the direct one
LOGITS = st.integers(1, 3000).flatmap(
    lambda n: arrays(np.float32, n, elements=st.sampled_from([-np.inf, -2.5, -1, 0, 0.5, 3, 3.25, 8]))
)


@given(LOGITS, st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_best_is_the_head_of_a_stable_sort(logits: np.ndarray, k: int) -> None:
    assert best(logits, k).tolist() == np.argsort(-logits, kind="stable")[:k].tolist()


def test_best_of_many_distinct() -> None:
    logits = np.random.default_rng(1).standard_normal(50_001).astype(np.float32)
    for k in (1, 7, 40, 1000):
        assert best(logits, k).tolist() == np.argsort(-logits, kind="stable")[:k].tolist()


def _plain(logits: np.ndarray, top_k: int, top_p: float, min_p: float) -> list[int]:
    """The definitions, over a full sort."""
    ids = [i for i in np.argsort(-logits, kind="stable") if logits[i] > -np.inf]
    ids = ids[: top_k or None]
    shares = np.exp(logits[ids].astype(np.float64) - float(logits[ids].max()))
    shares /= shares.sum()
    if top_p < 1:
        ids = ids[: next((i + 1 for i in range(len(ids)) if shares[: i + 1].sum() >= top_p), len(ids))]
    return [int(i) for i, share in zip(ids, shares, strict=False) if share >= min_p * shares[0]]


@given(
    st.integers(0, 10_000),
    st.sampled_from([0, 1, 5, 40]),
    st.sampled_from([0.1, 0.7, 0.95, 1.0]),
    st.sampled_from([0, 0.05, 0.5]),
)
@settings(max_examples=80, deadline=None)
def test_filters_keep_what_the_definitions_keep(seed: int, top_k: int, top_p: float, min_p: float) -> None:
    random = np.random.default_rng(seed)
    logits = random.standard_normal(random.integers(1, 2000)).astype(np.float32) * 3
    logits[random.random(len(logits)) < 0.2] = -np.inf
    logits[0] = 1.0
    ids, kept = candidates(logits, top_k, top_p, min_p)
    assert ids.tolist() == _plain(logits, top_k, top_p, min_p)
    assert kept.tolist() == logits[ids].tolist()


def test_greedy_takes_the_lowest_id_of_the_best() -> None:
    assert Sampler(SamplingOptions()).sample(np.array([1, 5, 5, -np.inf], np.float32)) == 1


def test_same_seed_same_tokens_and_the_drawn_shares_are_those_of_the_logits() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    options = SamplingOptions(temperature=1, top_k=0, top_p=1, min_p=0, seed=7)
    one, two = Sampler(options), Sampler(options)
    drawn = [one.sample(logits) for _ in range(4000)]
    assert drawn == [two.sample(logits) for _ in range(4000)]
    shares = np.bincount(drawn, minlength=4) / 4000
    assert np.abs(shares - [0.5, 0.3, 0.15, 0.05]).max() < 0.04  # five standard deviations of 0.5 over 4,000 draws


def test_temperature_sharpens_and_min_p_sees_it_not() -> None:
    logits = np.log(np.array([0.6, 0.3, 0.1], np.float32))
    cold = Sampler(SamplingOptions(temperature=0.1, top_p=1, min_p=0, seed=0))
    assert [cold.sample(logits) for _ in range(200)].count(0) > 190  # 0.6 ** 10 is 1,000 times 0.3 ** 10
    hot = Sampler(SamplingOptions(temperature=100, top_p=1, min_p=0.4, seed=0))
    assert {hot.sample(logits) for _ in range(200)} == {0, 1}


def test_penalty_divides_positive_and_multiplies_negative_once() -> None:
    logits = np.array([2.0, -2.0, 3.0], np.float32)
    assert penalised(logits, [0, 0, 1], 2.0).tolist() == [1.0, -4.0, 3.0]
    assert logits.tolist() == [2.0, -2.0, 3.0]
    sampler = Sampler(SamplingOptions(repeat_penalty=2.0, repeat_last=1))
    assert sampler.sample(logits, [2, 0]) == 2  # 2 is out of the window
    assert sampler.sample(logits, [0, 2]) == 0


def test_softmax_of_large_and_forbidden() -> None:
    assert softmax(np.array([1e30, -np.inf, 1e30], np.float32)).tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("bad", [[-np.inf, -np.inf], [0, np.nan], [np.inf, 0]])
def test_nothing_to_choose_is_an_error(bad: list[float]) -> None:
    with pytest.raises(EdgertError, match="no token can follow"):
        Sampler(SamplingOptions(temperature=1)).sample(np.array(bad, np.float32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_k": -1},
        {"repeat_penalty": 0},
        {"seed": -1},
        {"min_p": 2},
    ],
)
def test_options_out_of_range(wrong: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SamplingOptions(**wrong)
