"""Which tokens of the cache are kept, against an engine whose numbers depend on how tokens were grouped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.llm.cache.pool import PrefixPool
from edgert.serve.prefix import Prefix

CHUNK = 4


class Grouped:
    """Holds for each token how it was run: the history before its group, the group, its place in it."""

    rewinds = True

    def __init__(self) -> None:
        self.cache: list[tuple] = []
        self.tokens: list[int] = []

    @property
    def position(self) -> int:
        return len(self.cache)

    def prefill(self, ids: Sequence[int]) -> None:
        before = hash(tuple(self.cache))
        for i in range(len(ids)):
            self.cache.append((before, tuple(ids), i))
        self.tokens += ids

    def reset(self, position: int = 0) -> None:
        assert position <= self.position
        del self.cache[position:], self.tokens[position:]

    def rows(self, start: int, stop: int) -> list[np.ndarray]:
        part = np.empty(stop - start, object)
        part[:] = self.cache[start:stop]
        return [part]

    def append_rows(self, ids: Sequence[int], parts: Sequence[np.ndarray]) -> None:
        self.cache += list(parts[0])
        self.tokens += ids


def run(engine: Grouped, prefix: Prefix, ids: list[int], generated: list[int], exact: bool, stop: int) -> int:
    """As the worker does it; `stop`: pieces after which the client leaves."""
    kept = prefix.keep(ids, exact)
    start, done = kept, []
    try:
        for i, piece in enumerate(prefix.pieces(ids, kept)):
            if i == stop:
                return kept
            engine.prefill(list(piece))
            start += len(piece)
        assert 1 <= len(ids) - start <= CHUNK
        engine.prefill(ids[start:])
        for token in generated[:-1]:  # the last one is never run
            engine.prefill([token])
        done = generated
        return kept
    finally:
        prefix.hold([*ids, *done], len(ids), kept)


BASE = [0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1]
texts = st.tuples(
    # Mostly the same beginning, as conversations have it
    st.builds(lambda n, rest: BASE[:n] + rest, st.integers(1, len(BASE)), st.lists(st.integers(0, 1), max_size=6)),
    st.lists(st.integers(0, 1), max_size=6),
    st.booleans(),
    st.integers(0, 9),
)


PAGE_BYTES = CHUNK * 8  # of `Grouped`, where a page is a chunk


@pytest.mark.parametrize("page", [2, CHUNK])
@pytest.mark.parametrize("pages", [0, 3, 100])
@given(st.lists(texts, min_size=1, max_size=6))
def test_exact_requests_find_what_they_would_make(pages: int, page: int, requests: list) -> None:
    engine = Grouped()
    pool = PrefixPool(engine, CHUNK, pages * PAGE_BYTES, page)
    prefix = Prefix(engine, CHUNK, pool)  # type: ignore[arg-type]
    for ids, generated, exact, stop in requests:
        kept = run(engine, prefix, ids, generated, exact, stop)
        assert kept < len(ids) and pool.bytes <= pages * PAGE_BYTES
        assert engine.tokens == [*ids, *generated][: engine.position]
        if exact:
            fresh = Grouped()
            run(fresh, Prefix(fresh, CHUNK), ids, generated, True, 99)  # type: ignore[arg-type]
            assert engine.cache == fresh.cache[: engine.position]


def test_all_but_one_token_is_kept() -> None:
    engine = Grouped()
    prefix = Prefix(engine, CHUNK)  # type: ignore[arg-type]
    run(engine, prefix, [1, 2, 3, 4, 5, 6], [7, 8], False, 99)
    assert run(engine, prefix, [1, 2, 3, 4, 5, 6], [], False, 99) == 5
    assert run(engine, prefix, [1, 2, 3, 9], [], False, 99) == 3
    assert run(engine, prefix, [9], [], False, 99) == 0


def test_a_repeated_prompt_keeps_its_whole_chunks() -> None:
    engine = Grouped()
    prefix = Prefix(engine, CHUNK)  # type: ignore[arg-type]
    ids = list(range(10))
    assert [run(engine, prefix, ids, [1], True, 99) for _ in range(3)] == [0, 8, 8]


def test_texts_in_turn_share_a_pool() -> None:
    engine = Grouped()
    prefix = Prefix(engine, CHUNK, PrefixPool(engine, CHUNK, 100 * PAGE_BYTES))  # type: ignore[arg-type]
    one, other = [*range(8), 20, 21, 22, 23, 24], [*range(8), 30, 31, 32, 33, 34]
    kept = [run(engine, prefix, ids, [1], True, 99) for ids in (one, other, [9] * 9, one, other)]
    assert kept == [0, 8, 0, 12, 12]


def test_what_was_used_longest_ago_goes_first() -> None:
    engine = Grouped()
    pool = PrefixPool(engine, CHUNK, 4 * PAGE_BYTES)
    prefix = Prefix(engine, CHUNK, pool)  # type: ignore[arg-type]
    first, second, third = ([n] * 9 for n in (1, 2, 3))
    for ids in (first, second, first, third, [0]):  # three texts of two pages; `second` is the one to go
        run(engine, prefix, ids, [], True, 99)
    assert pool.bytes == 4 * PAGE_BYTES
    assert [run(engine, prefix, ids, [], True, 99) for ids in (first, second)] == [8, 0]
