"""Rows of texts that are not in an engine's cache any more, in pages that texts which begin alike share.

A page's key is a hash of all tokens from the beginning of the text to the page's end, as in vLLM's prefix caching (Kwon
et al. 2023, arXiv:2309.06180). Pages are copied in and out, so that attention reads one cache without a table of pages.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Protocol

import numpy as np

PAGE = 32  # tokens


class Rows(Protocol):
    """What the pool asks of an engine."""

    @property
    def position(self) -> int:
        """Tokens in its cache."""

    def reset(self, position: int = 0) -> None:
        """Forget what follows the first `position` tokens."""

    def rows(self, start: int, stop: int) -> Sequence[np.ndarray]:
        """Views of what the cache holds of these tokens."""

    def append_rows(self, ids: Sequence[int], parts: Sequence[np.ndarray]) -> None:
        """Append tokens by what `rows` gave for them, in the same place of a text that began alike."""


@dataclass
class _Page:
    parts: list[np.ndarray]
    chunk: bytes | None
    """The key of the end of the chunk that it was run in, where only whole chunks were run from the beginning on."""


class PrefixPool:
    """At most `most_bytes` of pages; those used longest ago go first, of a text its end before its beginning."""

    def __init__(self, engine: Rows, chunk: int, most_bytes: int, page: int = PAGE) -> None:
        """`chunk`: tokens that the engine runs at once; `page`: tokens of a page, at most."""
        self._engine, self._chunk, self._most = engine, chunk, most_bytes
        self._size = gcd(chunk, page)
        self._pages: OrderedDict[bytes, _Page] = OrderedDict()
        self.bytes = 0

    def store(self, tokens: Sequence[int], start: int, whole: int) -> None:
        """Copy whole pages of what the engine holds, `tokens`, from about token `start` on.

        The first `whole` tokens were run as whole chunks."""
        size, per = self._size, self._chunk // self._size
        keys = self._keys(tokens[: self._engine.position])
        if not keys:
            return
        page_bytes = sum(part.nbytes for part in self._engine.rows(0, size))
        used = keys[: self._most // page_bytes]  # a text that is longer keeps its beginning
        self._touch(used)  # now, so that none of them makes room for the others
        for i in reversed(range(start // size, len(used))):
            end = (i // per + 1) * per
            chunk = keys[end - 1] if end * size <= whole else None
            held = self._pages.get(keys[i])
            if held is not None and (chunk is None or held.chunk == chunk):
                continue
            while held is None and self.bytes + page_bytes > self._most:
                self._pages.popitem(last=False)
                self.bytes -= page_bytes
            self.bytes += page_bytes if held is None else 0
            parts = [part.copy() for part in self._engine.rows(i * size, (i + 1) * size)]
            self._pages[keys[i]] = _Page(parts, chunk)
        self._touch(used)

    def load(self, ids: Sequence[int], whole: int, exact: bool) -> int:
        """Append what there is of `ids`, all but its last token, to the engine, which holds the beginning of them.

        `whole`: tokens of these that were run as whole chunks. With `exact` only pages from such chunks are taken, the
        very chunks that `ids` has. Returns what `whole` is then."""
        size, per = self._size, self._chunk // self._size
        keys = self._keys(ids[: len(ids) - 1])
        held = self._engine.position
        first = found = held // size
        while found < len(keys) and keys[found] in self._pages:
            found += 1
        certain = whole // self._chunk * per  # pages
        while first <= certain and certain + per <= found:
            chunk = keys[certain : certain + per]
            if any(self._pages[key].chunk != chunk[-1] for key in chunk):
                break
            certain += per
        if exact:
            found = certain
        self._touch(keys[:found])
        if found * size <= held:
            return whole
        self._engine.reset(first * size)
        for i in range(first, found):
            self._engine.append_rows(ids[i * size : (i + 1) * size], self._pages[keys[i]].parts)
        return certain * size

    def _touch(self, keys: Sequence[bytes]) -> None:
        """Note their use, the first page's as the latest."""
        for key in reversed(keys):
            if key in self._pages:
                self._pages.move_to_end(key)

    def _keys(self, tokens: Sequence[int]) -> list[bytes]:
        """Of every whole page."""
        hasher, keys = hashlib.sha256(), []
        data = np.asarray(tokens, np.int64)
        for end in range(self._size, len(data) + 1, self._size):
            hasher.update(data[end - self._size : end].tobytes())
            keys.append(hasher.digest())
        return keys
