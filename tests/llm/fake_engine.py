"""A language model in numpy: the next token depends on the last two, by seeded tables. It checks how it is used."""

from collections.abc import Sequence

import numpy as np

from edgert.errors import DoesNotFit
from edgert.llm.engine_api import NO_PARENT

ROWS = 127


class FakeEngine:
    def __init__(self, vocab: int, seed: int = 0, context: int = 4096, spread: float = 3.0) -> None:
        self.vocab, self.context = vocab, context
        self._table = np.random.default_rng(seed).standard_normal((ROWS, vocab)).astype(np.float32) * spread
        self.committed: list[int] = []
        self._open: tuple[list[int], list[int]] | None = None
        self.passes = self.forgotten = 0

    @property
    def position(self) -> int:
        return len(self.committed)

    @property
    def room(self) -> int:
        return self.context - len(self.committed)

    place, rewinds = room, True

    def _logits(self, path: Sequence[int]) -> np.ndarray:
        before = path[-2] if len(path) > 1 else 0
        return self._table[(before * 31 + path[-1] * 7) % ROWS]

    def _room(self, n: int) -> None:
        self.passes += 1
        if len(self.committed) + n > self.context:
            raise DoesNotFit(f"{len(self.committed)} + {n} > {self.context}")

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        self._room(len(ids))
        self.committed.extend(ids)
        return self._logits(self.committed)

    def decode(self, token: int) -> np.ndarray:
        return self.prefill([token])

    def verify(self, ids: Sequence[int], parents: Sequence[int] | None = None) -> np.ndarray:
        self._room(len(ids))
        parents = list(range(-1, len(ids) - 1)) if parents is None else list(parents)
        assert all(NO_PARENT <= parent < i for i, parent in enumerate(parents))
        paths: list[list[int]] = []
        for token, parent in zip(ids, parents, strict=True):
            paths.append([*(self.committed if parent == NO_PARENT else paths[parent]), token])
        self._open = list(ids), parents
        return np.stack([self._logits(path) for path in paths])

    def commit(self, kept: Sequence[int]) -> None:
        assert self._open is not None
        ids, parents = self._open
        for before, index in zip([NO_PARENT, *kept], kept, strict=False):
            assert parents[index] == before
        self.committed.extend(ids[index] for index in kept)
        self._open = None

    def reset(self, position: int = 0) -> None:
        assert position <= len(self.committed)
        del self.committed[position:]
