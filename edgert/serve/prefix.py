"""What the engine's cache already holds of the next prompt.

The same tokens give slightly different numbers when they come in other groups (the kernels for one row and for many
round differently; on SmolLM2 logits differ by up to 0.4), so a cache that another request left could change an answer.
A request that must be repeatable therefore keeps only whole chunks that were run as it would run them itself: counted
from the beginning of the text, none left out. Others keep everything that is the same, generated tokens too.

What has to make room for another text goes to a pool, if there is one, and comes back by the same rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgert.llm.cache.pool import PrefixPool
from edgert.llm.engine_api import Engine


class Prefix:
    """The tokens in the cache of `engine`."""

    def __init__(self, engine: Engine, chunk: int, pool: PrefixPool | None = None) -> None:
        """`chunk`: tokens that the engine runs at once."""
        self._engine, self._chunk, self._pool = engine, chunk, pool
        self._held: list[int] = []
        self._whole = 0  # the first tokens of `_held`, run as whole chunks from the beginning

    def keep(self, ids: Sequence[int], exact: bool) -> int:
        """Have of the next text what there is, and nothing else; the number of its tokens, less than len(ids)."""
        kept = min(_common(self._held, ids), len(ids) - 1)
        if exact:
            kept = min(kept, self._whole) // self._chunk * self._chunk if self._engine.rewinds else 0
        if self._pool is not None:
            self._pool.store(self._held, kept, self._whole)
        self._engine.reset(kept)
        self._whole = min(self._whole, kept // self._chunk * self._chunk)
        if self._pool is not None:
            self._whole = self._pool.load(ids, self._whole, exact)
        return self._engine.position

    def pieces(self, ids: Sequence[int], kept: int) -> Iterator[Sequence[int]]:
        """The chunks of `ids` after the `kept` ones, but the last, which the generation runs itself."""
        for start in range(kept, len(ids) - self._chunk, self._chunk):
            yield ids[start : start + self._chunk]

    def hold(self, tokens: Sequence[int], prompt: int, kept: int) -> None:
        """Note that the cache holds the beginning of `tokens`, of which the first `prompt` were run in chunks."""
        self._held = list(tokens[: self._engine.position])
        if kept == self._whole:  # the chunks began at the grid's points
            self._whole = min(prompt, self._engine.position) // self._chunk * self._chunk

    def forget(self) -> None:
        """Nothing in the cache can be trusted."""
        self._engine.reset(0)
        self._held, self._whole = [], 0


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
