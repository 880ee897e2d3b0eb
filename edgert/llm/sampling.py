"""Choosing the next token from the logits.

The filters run in the order llama.cpp has by default, so that the same numbers mean the same thing: repetition
penalty, top-k, top-p, min-p, temperature. Top-p and min-p therefore see the probabilities before temperature. At
temperature 0 the best token is taken, the lowest id of equals, and only the penalty matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgert.errors import EdgertError, UsageError

_ROWS = 64  # that `best` folds the vocabulary into
_FIRST_GUESS = 256  # candidates that top-p sorts at first; a nucleus is seldom larger


@dataclass(frozen=True)
class SamplingOptions:
    """How to choose. The defaults are greedy; llama.cpp's own are temperature 0.8, top_k 40, top_p 0.95, min_p 0.05."""

    temperature: float = 0.0  # 0: greedy
    top_k: int = 40  # keep the k best; 0: all
    top_p: float = 0.95  # keep the fewest best whose probability reaches this; 1: all
    min_p: float = 0.05  # keep those at least this share as probable as the best; 0: all
    repeat_penalty: float = 1.0  # divides positive logits of recent tokens, multiplies negative ones (Keskar 2019)
    repeat_last: int = 64  # how many recent tokens; -1: all, 0: none
    seed: int | None = None  # None: a new one each time

    def __post_init__(self) -> None:
        checks = {
            "temperature": 0 <= self.temperature < float("inf"),
            "top_k": self.top_k >= 0,
            "top_p": 0 < self.top_p <= 1,
            "min_p": 0 <= self.min_p <= 1,
            "repeat_penalty": 0 < self.repeat_penalty < float("inf"),
            "repeat_last": self.repeat_last >= -1,
            "seed": self.seed is None or self.seed >= 0,
        }
        for name, good in checks.items():
            if not good:
                raise UsageError(f"{name} {getattr(self, name)} is out of range")

    @property
    def takes_likeliest(self) -> bool:
        """Whether the token is always the one of the greatest logit as the model gives it."""
        return self.temperature == 0 and (self.repeat_penalty == 1 or self.repeat_last == 0)


def told(token: int) -> int:
    """The likeliest token that an engine told in place of logits. Raises EdgertError where it told of none."""
    if token < 0:
        raise EdgertError("no token can follow: the model's results are not finite numbers")
    return token


class Sampler:
    """Options with the random state of one generation: the same seed and logits give the same tokens."""

    def __init__(self, options: SamplingOptions) -> None:
        self.options = options

    @cached_property
    def _random(self) -> np.random.Generator:
        """Begun with the first draw: it brings 6 MB along, which the greedy need not have."""
        return np.random.Generator(np.random.PCG64(self.options.seed))

    def sample(self, logits: np.ndarray, history: Sequence[int] = ()) -> int:
        """The next token's id, from float32 logits [vocab] (unchanged) and the tokens so far.

        -inf marks a forbidden token. Raises EdgertError when every token is, or a logit is NaN or +inf."""
        o = self.options
        logits = penalised(logits, recent(history, o.repeat_last), o.repeat_penalty)
        first = int(np.argmax(logits))  # a NaN counts as the largest, so it shows here
        if not np.isfinite(logits[first]):
            why = "all are forbidden" if logits[first] < 0 else "the model's results are not finite numbers"
            raise EdgertError(f"no token can follow: {why}")
        if o.temperature == 0:
            return first
        ids, kept = candidates(logits, o.top_k, o.top_p, o.min_p)
        shares = softmax(kept / np.float64(o.temperature))
        drawn = int(np.searchsorted(np.cumsum(shares), self._random.random(), side="right"))
        return int(ids[min(drawn, len(ids) - 1)])  # rounding can leave the sum a little below 1


def recent(history: Sequence[int], last: int) -> Sequence[int]:
    """The last `last` tokens of `history`; all for -1."""
    if last == 0:
        return ()
    return history if last < 0 else history[-last:]


def penalised(logits: np.ndarray, tokens: Sequence[int], penalty: float) -> np.ndarray:
    """Logits [vocab] with those of `tokens` made less likely, once each however often they stand there."""
    if penalty == 1 or not len(tokens):
        return logits
    ids = np.unique(np.asarray(tokens, np.int64))
    changed = logits.copy()
    values = changed[ids]
    changed[ids] = np.where(values > 0, values / np.float32(penalty), values * np.float32(penalty))
    return changed


def best(logits: np.ndarray, k: int) -> np.ndarray:
    """The ids of the `k` largest logits [vocab], best first, the lower id first of equals. int64 [min(k, vocab)].

    The k largest stand in columns whose maximum is among the k largest maxima, so one pass over the vocabulary that
    vectorises well (the maxima) leaves little to select from: about 0.1 ms for 262,144, a sort takes 20."""
    if k >= len(logits):
        return np.argsort(-logits, kind="stable")
    columns = len(logits) // _ROWS
    if columns > 4 * k:
        whole = logits[: _ROWS * columns].reshape(_ROWS, columns)
        maxima = whole.max(axis=0)
        chosen = np.flatnonzero(maxima >= np.partition(maxima, -k)[-k])
        tail = np.arange(_ROWS * columns, len(logits))
        ids = np.concatenate([(np.arange(_ROWS)[:, None] * columns + chosen).ravel(), tail])
        return ids[_select(logits[ids], k)]
    return _select(logits, k)


def _select(logits: np.ndarray, k: int) -> np.ndarray:
    """What `best` says, by a selection among all."""
    least = np.partition(logits, -k)[-k]  # a selection, not a sort
    above = np.flatnonzero(logits > least)
    ids = np.sort(np.concatenate([above, np.flatnonzero(logits == least)[: k - len(above)]]))
    return ids[np.argsort(-logits[ids], kind="stable")]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64, of finite or -inf logits."""
    powers = np.exp(logits.astype(np.float64) - np.float64(logits.max()))
    return powers / powers.sum()


def candidates(logits: np.ndarray, top_k: int, top_p: float, min_p: float) -> tuple[np.ndarray, np.ndarray]:
    """(ids, logits) of those that pass top-k, then top-p, then min-p: best first, at least one, none at -inf."""
    ids = best(logits, top_k) if 0 < top_k < len(logits) else _nucleus(logits, top_p)
    kept = logits[ids]
    if top_p < 1 and 0 < top_k < len(logits):
        ids = ids[: _reaching(softmax(kept), top_p)]
        kept = kept[: len(ids)]
    # p >= min_p * p_best, as logits; 0 keeps all but the impossible
    least = kept[0] + np.log(min_p) if min_p > 0 else np.finfo(np.float32).min
    keep = kept >= least
    return ids[keep], kept[keep]


def _reaching(shares: np.ndarray, top_p: float) -> int:
    """How many of `shares` (best first) it takes for their sum to reach `top_p`."""
    return min(int(np.searchsorted(np.cumsum(shares), top_p)) + 1, len(shares))


def _nucleus(logits: np.ndarray, top_p: float) -> np.ndarray:
    """Top-p over the whole vocabulary: sorts a growing head instead of everything."""
    if top_p == 1:
        return np.flatnonzero(logits > -np.inf)[np.argsort(-logits[logits > -np.inf], kind="stable")]
    shares = softmax(logits)
    head = _FIRST_GUESS
    while True:
        ids = best(logits, head)
        sums = np.cumsum(shares[ids])
        if sums[-1] >= top_p or head >= len(logits):
            return ids[: min(int(np.searchsorted(sums, top_p)) + 1, len(ids))]
        head *= 8
