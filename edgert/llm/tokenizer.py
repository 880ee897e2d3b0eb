"""Text to token ids and back, from what the artifact carries."""

import codecs
import contextlib
import ctypes
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgert.errors import EdgertError

MOST_TEXT = 1 << 26  # bytes of one text: merging is fast, but not free


def _byte_of_char() -> dict[str, int]:
    """GPT-2's table: printable bytes stand for themselves, the rest are written from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_of_char()


class Tokenizer:
    """A `tokenizer.json` with the config that `tokenizer_from_gguf` made. Several threads may share one.

    Raises EdgertError when the `tokenizers` package is missing or does not take the JSON."""

    def __init__(self, json: str, config: Mapping[str, Any]) -> None:
        self._json = json
        self.config = dict(config)
        self.bos: int | None = config["bos"]
        self.eos: int | None = config["eos"]
        self.end_ids: frozenset[int] = frozenset(config["end_ids"])
        self.vocab: int = config["vocab"]
        self._lock = threading.RLock()  # `encode_special_tokens` is a state of the shared object
        self._table: tuple[bytes, np.ndarray] | None = None
        self._inner: Any = self._load()
        added = self._inner.get_added_tokens_decoder()
        self._added = {i: (token.content, token.special) for i, token in added.items()}
        self.control_ids = frozenset(i for i, (_, control) in self._added.items() if control)

    def encode(self, text: str, special: bool = False, bos: bool = False) -> list[int]:
        """The ids of `text`.

        `special`: control tokens written out in the text (`<|im_end|>`) become their ids, as for a prompt that is
        known to be well-formed; otherwise they are ordinary characters, as for what a user typed. `bos`: begin with
        the beginning-of-text id, if this model wants one (the config's `add_bos`). Raises EdgertError for a text of
        more than 64 MB or with lone surrogates."""
        ids = self._encoding(text, special).ids
        return [self.bos, *ids] if bos and self.config["add_bos"] and self.bos is not None else ids

    def control_spans(self, text: str) -> list[tuple[int, int]]:
        """Where `text` (in characters) holds the texts of control tokens, in order."""
        encoding = self._encoding(text, special=True)
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        return [span for token, span in pairs if token in self.control_ids]

    def token_bytes(self, token: int, special: bool = False) -> bytes:
        """What `token` writes, as UTF-8 bytes, perhaps part of a character; a control token nothing unless `special`.

        Raises EdgertError for an id outside the vocabulary."""
        if token in self._added:
            content, control = self._added[token]
            return content.encode() if special or not control else b""
        if not 0 <= token < self.vocab:
            raise EdgertError(f"token {token} is not in the vocabulary of {self.vocab}")
        if self._table is not None:
            texts, ends = self._table
            return texts[ends[token] : ends[token + 1]]
        return self._bytes_of(token)

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD. Control tokens are left out unless `special`."""
        whole = b"".join(self.token_bytes(int(token), special) for token in ids)
        if self.config["space_prefix"] and whole.startswith(b" "):
            whole = whole[1:]  # the one that encode put there
        return whole.decode("utf-8", "replace")

    def stream(self, special: bool = False) -> "TextStream":
        """A decoder that takes ids one by one, for text that goes on from a prompt."""
        return TextStream(self, special)

    def release(self) -> None:
        """Give back the encoder's memory; the next encode builds it anew (0.1 s for 49,152 tokens, 0.7 for 262,144).

        Decoding goes on from a small table. For a process that has read its prompt and shall stay small."""
        with self._lock:
            if self._table is None:
                texts = [self._bytes_of(i) for i in range(self.vocab)]
                self._table = b"".join(texts), np.cumsum([0, *map(len, texts)], dtype=np.int64)
            self._inner = None
        with contextlib.suppress(OSError, AttributeError):  # glibc keeps freed memory unless told; others lack this
            ctypes.CDLL(None).malloc_trim(0)

    def _load(self) -> Any:
        try:
            import tokenizers
        except ImportError as error:
            raise EdgertError("language models need the tokenizers package: pip install 'edgert[llm]'") from error
        try:
            return tokenizers.Tokenizer.from_str(self._json)
        except Exception as error:  # the library raises plain Exception
            raise EdgertError(f"the artifact's tokenizer is damaged: {error}") from error

    def _encoding(self, text: str, special: bool) -> Any:
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise EdgertError(f"the text is not valid Unicode: {error.reason} at character {error.start}") from error
        if size > MOST_TEXT:
            raise EdgertError(f"the text has {size} bytes; at most {MOST_TEXT} are tokenized at once")
        with self._lock:
            if self._inner is None:
                self._inner = self._load()
            self._inner.encode_special_tokens = not special
            return self._inner.encode(text, add_special_tokens=False)

    def _bytes_of(self, token: int) -> bytes:
        with self._lock:
            if self._inner is None:
                self._inner = self._load()
            text = self._inner.id_to_token(token) or ""  # an id that the JSON has no token for writes nothing
        if self.config["kind"] == "bytes":
            return bytes(_BYTES[char] for char in text) if all(char in _BYTES for char in text) else text.encode()
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return bytes([int(text[3:5], 16)])
        return text.replace("▁", " ").encode()


class TextStream:
    """Ids in, text out as soon as it is certain: a character whose bytes span tokens comes with its last one."""

    def __init__(self, tokenizer: Tokenizer, special: bool) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that `token` completes; "" when a character is still unfinished."""
        return self._utf8.decode(self._tokenizer.token_bytes(token, self._special))

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that was never finished, else ""."""
        return self._utf8.decode(b"", final=True)
