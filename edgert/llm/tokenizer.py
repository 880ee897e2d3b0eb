"""Text to token ids and back, from what the artifact carries."""

import codecs
import contextlib
import ctypes
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from edgert.errors import EdgertError
from edgert.llm.token_texts import TokenTexts, pack_texts

MOST_TEXT = 1 << 26  # bytes of one text: merging is fast, but not free


class Tokenizer:
    """A `tokenizer.json` with the config that `tokenizer_from_gguf` made. Several threads may share one.

    Text is written from a table, without the `tokenizers` package; that is loaded when a text is first encoded."""

    def __init__(
        self, json: str | memoryview, config: Mapping[str, Any], texts: bytes | memoryview | None = None
    ) -> None:
        """`texts`: the table that pack_texts made, which else is made now. Raises EdgertError where it is damaged."""
        self._json = json
        self.config = dict(config)
        self.bos: int | None = config["bos"]
        self.eos: int | None = config["eos"]
        self.end_ids: frozenset[int] = frozenset(config["end_ids"])
        self.vocab: int = config["vocab"]
        self._lock = threading.RLock()  # `encode_special_tokens` is a state of the shared object
        self._texts = TokenTexts(
            pack_texts(bytes(json, "utf-8") if isinstance(json, str) else bytes(json), config)
            if texts is None
            else texts,
            self.vocab,
        )
        self._inner: Any = None
        self._added = {i: (text, bool(control)) for i, text, control in config["added"]}
        self.control_ids = frozenset(i for i, (_, control) in self._added.items() if control)

    def encode(self, text: str, special: bool = False, bos: bool = False) -> list[int]:
        """The ids of `text`.

        `special`: control tokens written out in the text (`<|im_end|>`) become their ids, as for a prompt that is
        known to be well-formed; otherwise they are ordinary characters, as for what a user typed. `bos`: begin with
        the beginning-of-text id, if this model wants one (the config's `add_bos`). Raises EdgertError for a text of
        more than 64 MB or with lone surrogates."""
        ids = self._encoding(text, special).ids
        return self.with_bos(ids) if bos else ids

    def with_bos(self, ids: list[int]) -> list[int]:
        """`ids` behind the beginning-of-text id, if this model wants one."""
        return [self.bos, *ids] if self.config["add_bos"] and self.bos is not None else ids

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
        return self._texts[token]

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

        Decoding does not need it. For a process that has read its prompt and shall stay small."""
        with self._lock:
            self._inner = None
        with contextlib.suppress(OSError, AttributeError):  # glibc keeps freed memory unless told; others lack this
            ctypes.CDLL(None).malloc_trim(0)

    def _load(self) -> Any:
        try:
            import tokenizers
        except ImportError as error:
            raise EdgertError("language models need the tokenizers package: pip install 'edgert[llm]'") from error
        try:
            return tokenizers.Tokenizer.from_str(
                str(self._json, "utf-8") if isinstance(self._json, memoryview) else self._json
            )
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
