"""MiniLM as pulled: the similarity its authors publish, padding without effect, and its tokenizer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from compiler.zoo.wordpiece import WordPiece, words

SENTENCES = ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "!", "cafe", "漢", "a"]


@pytest.mark.registry
def test_sentences(pulled: Callable[[str], Path]) -> None:
    path = pulled("minilm")
    tokenizer, session = WordPiece(path.parent / "minilm.vocab.txt"), onnxruntime.InferenceSession(path)
    inputs = [tokenizer.encode(sentence) for sentence in SENTENCES]
    assert inputs[0]["input_ids"].tolist() == [[101, 1037, 2158, 2003, 5983, 2833, 1012, 102]]
    vectors = [session.run(["embedding"], feeds)[0][0] for feeds in inputs]
    # sentence-transformers' own guide prints 0.7553 for this pair: four digits.
    assert vectors[0] @ vectors[1] == pytest.approx(0.7553, abs=1e-4)
    assert vectors[0] @ vectors[2] < 0.1
    padded = {name: np.pad(array, ((0, 0), (0, 9))) for name, array in inputs[0].items()}
    # The same sums with zeros added; only their order in memory may differ, so float32 roundings.
    np.testing.assert_allclose(session.run(["embedding"], padded)[0][0], vectors[0], atol=1e-6)


@pytest.fixture
def tokenizer(tmp_path: Path) -> WordPiece:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return WordPiece(tmp_path / "vocab.txt")


def test_longest_piece_first(tokenizer: WordPiece) -> None:
    assert tokenizer.split("unaffable") == ["un", "##aff", "##able"]
    assert tokenizer.split("unx") == ["[UNK]"]
    assert tokenizer.split("a" * 101) == ["[UNK]"]


def test_encode_adds_the_marks_and_cuts(tokenizer: WordPiece) -> None:
    assert tokenizer.encode("Café!")["input_ids"].tolist() == [[2, 8, 7, 3]]
    assert tokenizer.encode("")["input_ids"].tolist() == [[2, 3]]
    cut = tokenizer.encode("a " * 50, max_tokens=8)
    assert cut["input_ids"].tolist() == [[2, 10, 10, 10, 10, 10, 10, 3]]
    assert all(array.shape == (1, 8) and array.dtype == np.int64 for array in cut.values())


def test_words() -> None:
    assert list(words("Don't\u00a0stop\x00\u200b 漢字, ÉTÉ~")) == ["don", "'", "t", "stop", "漢", "字", ",", "ete", "~"]
