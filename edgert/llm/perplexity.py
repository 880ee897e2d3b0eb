"""How well a model predicts a text: exp of the mean negative log-likelihood of its tokens.

As llama.cpp's tool does by default (tools/perplexity/perplexity.cpp, `perplexity`), so that figures compare: the
text's tokens (begun with the beginning-of-text token where the model wants one) are cut into windows side by side,
what is left at the end is dropped; each window starts from an empty cache, its first token replaced by the
beginning-of-text token where the model wants one; scored are the tokens behind the middle, which the model sees with
at least half a window before them: n - n // 2 - 1 of n."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgert.errors import EdgertError, UsageError
from edgert.llm.engine_api import Engine

PIECE = 64  # tokens scored in one pass: what an artifact gives logits for at once


@dataclass
class Score:
    """What has been scored so far: windows, tokens, and the sum of their negative log-likelihoods in nats."""

    windows: int = 0
    tokens: int = 0
    nll: float = 0.0
    squares: float = 0.0  # of each token's, for the error

    @property
    def perplexity(self) -> float:
        """exp of the mean."""
        return float(np.exp(self.nll / self.tokens))

    @property
    def error(self) -> float:
        """The standard error of `perplexity`, as if tokens were independent; 0 for a single token."""
        if self.tokens < 2:
            return 0.0
        variance = max(0.0, self.squares / self.tokens - (self.nll / self.tokens) ** 2)
        return self.perplexity * float(np.sqrt(variance / (self.tokens - 1)))


def windows(ids: Sequence[int], size: int, bos: int | None) -> list[list[int]]:
    """The windows of `size` tokens, each begun with `bos` where that is not None. Raises UsageError for less than one
    window or a size below 3, which leaves nothing to score."""
    if size < 3:
        raise UsageError(f"a window of {size} tokens: at least 3 are needed")
    if len(ids) < size:
        raise UsageError(f"the text has {len(ids)} tokens, less than one window of {size}: give a longer one")
    cut = [list(ids[at : at + size]) for at in range(0, len(ids) - size + 1, size)]
    return [window if bos is None else [bos, *window[1:]] for window in cut]


def measure(engine: Engine, cut: Sequence[Sequence[int]], every: bool = False) -> Iterator[Score]:
    """Score the windows one after the other; gives the same Score, grown, after each.

    every: score each token that has another before it. Raises EdgertError for logits that are not finite."""
    score = Score()
    for window in cut:
        engine.reset()
        first = 0 if every else len(window) // 2
        if first:
            engine.prefill(window[:first])
        for at in range(first, len(window) - 1, PIECE):
            some = window[at : min(at + PIECE, len(window) - 1)]
            losses = negative_log_likelihood(engine.verify(some), window[at + 1 : at + 1 + len(some)])
            engine.commit(range(len(some)))
            score.tokens += len(some)
            score.nll += float(losses.sum())
            score.squares += float((losses * losses).sum())
        if not np.isfinite(score.nll):
            raise EdgertError("the model's results are not finite numbers")
        score.windows += 1
        yield score


def negative_log_likelihood(logits: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Of each row's token, in nats: float64 [n] from float32 logits [n, vocab]. The sum over the vocabulary is in
    float64, its terms in float32: 1e-7 of the sum, far below what a figure of perplexity shows."""
    result = np.empty(len(ids))
    for i, (row, token) in enumerate(zip(logits, ids, strict=True)):  # a row at a time: little memory
        top = row.max()
        result[i] = np.log(np.exp(row - top).sum(dtype=np.float64)) + float(top) - float(row[token])
    return result
