"""BERT's uncased WordPiece tokenizer: text to the token ids that `minilm` takes (arXiv:1810.04805, section 3).

Same ids as the tokenizer.json beside the model gives without its padding and truncation, but for characters that only
newer Unicode tables know as punctuation, and for special tokens written in the
text ("[MASK]"), which are read as plain text here.
"""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_LONGEST_WORD = 100  # characters; longer words become [UNK], as in BERT
_CJK = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
        (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))  # fmt: skip


class WordPiece:
    """A vocabulary, one token a line, and the greedy split of words into it."""

    def __init__(self, vocabulary: str | Path) -> None:
        """`vocabulary` is the path of a BERT vocab.txt."""
        lines = Path(vocabulary).read_text(encoding="utf-8").split("\n")
        self.ids = {token: index for index, token in enumerate(lines) if token}

    def encode(self, text: str, max_tokens: int = 256) -> dict[str, np.ndarray]:
        """The model's three inputs, int64 [1, tokens]: [CLS], at most `max_tokens` - 2 tokens of `text`, [SEP]."""
        tokens = [self.ids[token] for word in words(text) for token in self.split(word)][: max_tokens - 2]
        ids = np.array([[self.ids["[CLS]"], *tokens, self.ids["[SEP]"]]], np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    def split(self, word: str) -> list[str]:
        """The longest known piece from the left, again and again; [UNK] where no piece fits."""
        pieces, start = [], 0
        while start < len(word) <= _LONGEST_WORD:
            prefix = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in self.ids)
            end = next(ends, None)
            if end is None:
                break
            pieces.append(prefix + word[start:end])
            start = end
        return pieces if start == len(word) else ["[UNK]"]


def words(text: str) -> Iterator[str]:
    """Lower-case words without accents; each punctuation mark and each Chinese character is a word of its own."""
    spaced = "".join(_clean(character) for character in text)
    plain = "".join(c for c in unicodedata.normalize("NFD", spaced) if unicodedata.category(c) != "Mn").lower()
    for chunk in plain.split():
        word = ""
        for character in chunk:
            if not _is_punctuation(character):
                word += character
                continue
            if word:
                yield word
            yield character
            word = ""
        if word:
            yield word


def _clean(character: str) -> str:
    if character in "\t\n\r" or character.isspace():
        return " "
    if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co"):
        return ""
    return f" {character} " if any(low <= ord(character) <= high for low, high in _CJK) else character


def _is_punctuation(character: str) -> bool:
    """ASCII's symbols count too, as in BERT, though Unicode calls some of them otherwise."""
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")
