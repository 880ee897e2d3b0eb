"""A compiled decoder with its KV cache: the engine that text generation drives (engine_api.py)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from typing import Any, Self

import numpy as np

from edgert import cpu
from edgert.errors import DoesNotFit, UsageError
from edgert.llm.cache import Keep, Policy, snapshot
from edgert.llm.cache.rows import CacheRows
from edgert.llm.engine_api import NO_PARENT
from edgert.manifest import Slot
from edgert.runner import Model, load
from edgert.units import format_bytes

Ids = Sequence[int] | np.ndarray
FEW = 8  # rows of logits that guesses take


class CachedEngine:
    """One text at a time over the cache of one artifact."""

    def __init__(self, model: Model, context: int | None = None, policy: Policy | None = None) -> None:
        """`context`: tokens that the cache has room for (default: the artifact's most); `policy`: what happens when
        they are used up, and of how many rows it makes use (default: nothing fits any more).

        Raises UsageError for an artifact that is no language model or a context it was not made for, DoesNotFit with
        what the cache needs where that is not free.
        """
        self.model, facts, self._rows_reserved = model, decoder_facts(model), 0
        self._output = str(model.artifact.spec.outputs[0].name)
        self.tells_likeliest = self._output != "logits"
        """Whether it gives, in place of the logits of a token, the id of the likeliest one."""
        most = int(facts["context"])
        self.context = most if context is None else context
        if not 1 <= self.context <= most:
            raise UsageError(f"a context of {self.context} tokens: this artifact takes 1 to {most}")
        self.policy = policy or Keep()
        self.context = self.policy.rows(self.context)
        state = [tensor for tensor in model.artifact.spec.inputs if tensor.name in model.artifact.spec.state]
        shapes = {t.name: tuple(self.context if isinstance(axis, Slot) else axis for axis in t.shape) for t in state}
        self.cache_bytes = sum(prod(shapes[t.name]) * np.dtype(t.dtype).itemsize for t in state)
        free = cpu.available_memory()
        if free is not None and self.cache_bytes > free:
            raise DoesNotFit(
                f"a KV cache for {self.context} tokens needs {self.cache_bytes} bytes "
                f"({format_bytes(self.cache_bytes)}), free are {free}: ask for a smaller --context"
            )
        if model.memory is not None:
            self._reserve_logits(min(FEW, int(facts["wanted"])), int(facts["vocab"]))
            model.memory.reserve("KV cache", self.cache_bytes)
        # [1, 2, groups, context, ...] each; pages come as they are written
        self._state = {t.name: np.zeros(shapes[t.name], t.dtype) for t in state}
        self.vocab, self.chunk, self.wanted = (int(facts[name]) for name in ("vocab", "chunk", "wanted"))
        self._rows = CacheRows(self._state, facts, self.context, self.policy)
        width = () if self.tells_likeliest else (self.vocab,)
        self._logits = np.empty((self.wanted, *width), np.int64 if self.tells_likeliest else np.float32)
        at_once = self.policy.at_once(self.context)
        self.chunk, self.wanted = min(self.chunk, at_once), min(self.wanted, at_once)
        folding = self._rows.folding
        if folding is not None:
            self.chunk, self.wanted = min(self.chunk, folding.groups.most), min(self.wanted, folding.groups.most)
        self._folded = {} if folding is None else {"folded": folding.counts}
        self._triangle = np.tri(self.chunk, dtype=np.uint8)
        # whether a run may ask for no logits: then the output layer is neither run nor read
        self._headless = any(dim.name == "want" and dim.min == 0 for dim in model.artifact.spec.dims)
        self._past, self.position = np.zeros(1, np.int64), 0
        self._few: dict[int, _Few] = {}
        self._verified = 0  # tokens of the last `verify`
        self._wide = False  # whether the last run took a block of tokens

    @property
    def forgotten(self) -> int:
        """See engine_api.Engine."""
        return self._rows.forgotten

    @property
    def room(self) -> int | None:
        """See engine_api.Engine."""
        return self._rows.room(self.position)

    @property
    def place(self) -> int:
        """See engine_api.Engine."""
        return self._rows.place(self.position)

    @property
    def rewinds(self) -> bool:
        """See engine_api.Engine."""
        return self._rows.folding is None

    def prefill(self, ids: Ids) -> np.ndarray:
        """See engine_api.Engine."""
        ids = self._checked(ids)
        for start in range(0, len(ids), self.chunk):
            some = ids[start : start + self.chunk]
            last = start + self.chunk >= len(ids)
            logits = self._run(some, [len(some) - 1] if last or not self._headless else [])
            self.position += len(some)
        return logits[0]

    def decode(self, token: int) -> np.ndarray:
        """See engine_api.Engine."""
        self._verified = 0
        logits = self._run_few(np.array([token]))
        self.position += 1
        return logits[0]

    def verify(self, ids: Ids, parents: Sequence[int] | None = None) -> np.ndarray:
        """See engine_api.Engine. At most `wanted` tokens."""
        ids = self._checked(ids)
        if len(ids) > self.wanted:
            raise UsageError(f"{len(ids)} tokens to verify: at most {self.wanted} at once")
        chain = parents is None or list(parents) == list(range(NO_PARENT, len(ids) - 1))
        few = chain and len(ids) <= FEW
        logits = self._run_few(ids) if few else self._run(ids, range(len(ids)), parents)
        self._verified = len(ids)
        return logits

    def score(self, ids: Ids) -> np.ndarray:
        """Append and commit `ids`: logits [n, vocab] after each, a copy. Raises UsageError where it has none."""
        if self.tells_likeliest:
            raise UsageError("this engine tells the likeliest tokens, and no logits")
        ids = self._checked(ids)
        self._reserve_logits(len(ids) + self.wanted, self.vocab)
        parts = []
        for start in range(0, len(ids), self.wanted):
            some = ids[start : start + self.wanted]
            parts.append(self._run(some, range(len(some))).copy())
            self.position += len(some)
        return np.concatenate(parts)

    def commit(self, kept: Sequence[int]) -> None:
        """See engine_api.Engine."""
        if any(not 0 <= k < self._verified for k in kept):
            raise UsageError(f"{list(kept)} are not tokens of the last verify")
        if list(kept) != list(range(len(kept))):
            self._rows.pick(self.position, kept)
        self.position, self._verified = self.position + len(kept), 0

    def reset(self, position: int = 0) -> None:
        """See engine_api.Engine."""
        if not 0 <= position <= self.position:
            raise UsageError(f"position {position} is not among the {self.position} there are")
        self.position, self._verified = position, 0
        self._rows.cut(position)

    def reuse(self, ids: Ids) -> int:
        """Forget what the text `ids` does not begin with: the number of its tokens that need not run again.

        Less than len(ids), since a pass needs one.
        """
        kept = self._rows.common(self.position, np.asarray(ids, np.int64))
        self.reset(kept)
        return kept

    def rows(self, start: int, stop: int) -> list[np.ndarray]:
        """Views of what the cache holds of the tokens [start, stop), which later calls change."""
        return self._rows.views(start, stop)

    def append_rows(self, ids: Ids, parts: Sequence[np.ndarray]) -> None:
        """Append and commit `ids` by what `rows` gave for them in the same place of a text that began alike.

        Raises DoesNotFit where they do not fit."""
        ids = self._checked(ids)
        self._make_room(ids)
        end = self.position + len(ids)
        for view, part in zip(self._rows.views(self.position, end), parts, strict=True):
            view[...] = part
        self.position = end

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what the cache holds to `path`. Raises EdgertError where that cannot be written."""
        snapshot.save(path, self.model.artifact, self._rows, self.position)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on where `save` was called, with the same numbers. Raises what snapshot.restore raises."""
        self.position = snapshot.restore(path, self.model.artifact, self._rows, self.vocab)
        self._verified = 0

    def close(self) -> None:
        """Give the arena back; the cache goes with the engine."""
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, ids: Ids) -> np.ndarray:
        array = np.asarray(ids, np.int64)
        if array.ndim != 1 or not len(array):
            raise UsageError("give at least one token")
        self._rows.check(self.position, len(array))
        self._verified = 0
        return array

    def _reserve_logits(self, rows: int, vocab: int) -> None:
        """Counts rows of logits, what else goes in and out is small, in a budget where there is one."""
        if self.model.memory is not None and rows > self._rows_reserved:
            self._rows_reserved = rows
            self.model.memory.reserve("inputs and outputs", rows * (8 if self.tells_likeliest else vocab * 4))

    def _make_room(self, ids: np.ndarray) -> None:
        self.position = self._rows.make_room(self.position, len(ids))
        self._rows.put(self.position, ids)

    def _run_few(self, ids: np.ndarray) -> np.ndarray:
        """Logits of all of those tokens, each of which follows the one before, by arrays that are bound once."""
        few = self._few.get(len(ids)) or self._few.setdefault(len(ids), _Few(self, len(ids)))
        if self._wide:  # a block of a prompt takes many times the arena that these do
            self.model.rest()
            self._wide = False
        self._make_room(ids)
        few.ids[:], self._past[0] = ids, self.position
        np.add(few.depth, self.position + self._rows.shift, out=few.positions)
        few.bound.run()
        return self._logits[: len(ids)]

    def _run(self, ids: np.ndarray, rows: Sequence[int], parents: Sequence[int] | None = None) -> np.ndarray:
        """Logits [rows, vocab] of those tokens, which go into the cache behind what is committed."""
        self._reserve_logits(len(rows), self.vocab)
        self._make_room(ids)
        seen, depth = self._triangle[: len(ids), : len(ids)], np.arange(len(ids), dtype=np.int64)
        if parents is not None:
            seen, depth = _tree(parents)
        self._past[0], self._wide = self.position, len(ids) > FEW
        given: dict[str, Any] = {
            "ids": ids, "positions": self.position + self._rows.shift + depth, "past": self._past,
            "seen": np.ascontiguousarray(seen),
            "rows": np.array(rows, np.int64), **self._folded, **self._state,
        }  # fmt: skip
        return self.model.run(given, {self._output: self._logits})[self._output]


class _Few:
    """What goes in and comes out of a pass over `count` tokens, bound."""

    def __init__(self, engine: CachedEngine, count: int) -> None:
        self.ids, self.positions, self.depth = (np.arange(count, dtype=np.int64) for _ in range(3))
        seen = np.tri(count, dtype=np.uint8)
        given = {"ids": self.ids, "positions": self.positions, "past": engine._past, "seen": seen, "rows": self.depth}
        self.bound = engine.model.bind(given | engine._folded | engine._state, {engine._output: engine._logits})


def decoder_facts(model: Model) -> dict[str, Any]:
    """The manifest's entry `decoder`. Raises UsageError for an artifact that is no language model."""
    facts = model.manifest.get("decoder")
    if not isinstance(facts, dict):
        raise UsageError(f"{model.artifact.path} is not a language model: give one compiled from a .gguf file")
    return facts


def _tree(parents: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens each sees (itself and its ancestors), and how deep each is."""
    seen, depth = np.eye(len(parents), dtype=np.uint8), np.zeros(len(parents), np.int64)
    for i, parent in enumerate(parents):
        if parent != NO_PARENT:
            seen[i] |= seen[parent]
            depth[i] = depth[parent] + 1
    return seen, depth


def open_engine(
    path: str | os.PathLike[str],
    threads: int | None = None,
    context: int | None = None,
    cache: str | None = None,
    policy: Policy | None = None,
    dram: int | str | None = None,
) -> CachedEngine:
    """The engine of the artifact at `path`; `cache`: how keys and values are stored, f16 if not given; `dram`: a
    budget for the whole process, as for edgert.load.

    Raises what edgert.load and CachedEngine raise.
    """
    return CachedEngine(load(path, threads, dram, cache if cache != "f16" else None), context, policy)
