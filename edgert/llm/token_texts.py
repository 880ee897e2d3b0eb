"""What every token writes, as one table made at compile time, so that writing text needs no tokenizer library."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgert.errors import EdgertError


def _byte_of_char() -> dict[str, int]:
    """GPT-2's table: printable bytes stand for themselves, the rest are written from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_of_char()


class TokenTexts:
    """Bytes of each token: `ends` uint32 [vocab], where a token's bytes end, and behind them all bytes in a row."""

    def __init__(self, packed: bytes | memoryview, vocab: int) -> None:
        """Raises EdgertError for a table that is not of `vocab` tokens."""
        ends = np.frombuffer(packed, np.uint32, count=vocab) if len(packed) >= 4 * vocab else np.zeros(0, np.uint32)
        if len(ends) != vocab or len(packed) != 4 * vocab + int(ends[-1]) or np.any(ends[1:] < ends[:-1]):
            raise EdgertError(f"the artifact's table of token texts is damaged: it is not one of {vocab} tokens")
        self._ends, self._bytes = ends, memoryview(packed)[4 * vocab :]

    def __getitem__(self, token: int) -> bytes:
        """UTF-8 bytes, perhaps part of a character; `token` is within the vocabulary."""
        return bytes(self._bytes[int(self._ends[token - 1]) if token else 0 : int(self._ends[token])])


def pack_texts(tokenizer: str | bytes, config: Mapping[str, Any]) -> bytes:
    """The table for a `tokenizer.json` with its config, as TokenTexts reads it; ids without a token write nothing.

    Raises EdgertError for JSON that is no such thing."""
    texts = [b""] * int(config["vocab"])
    one = _from_characters if config["kind"] == "bytes" else _from_piece
    try:
        for text, token in json.loads(tokenizer)["model"]["vocab"].items():
            texts[token] = one(text)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EdgertError(f"the artifact's tokenizer is damaged: {error}") from error
    return np.cumsum([len(text) for text in texts], dtype=np.uint32).tobytes() + b"".join(texts)


def _from_characters(text: str) -> bytes:
    return bytes(_BYTES[char] for char in text) if all(char in _BYTES for char in text) else text.encode()


def _from_piece(text: str) -> bytes:
    """SentencePiece's: U+2581 for a space, <0x..> for a byte."""
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return text.replace("▁", " ").encode()
