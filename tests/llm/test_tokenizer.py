"""Tokenizers made from GGUF metadata: text comes back whole, control tokens stay out of it, damage is refused."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.errors import EdgertError, UnsupportedModel
from edgert.llm.pieces import merges_of
from edgert.llm.token_texts import pack_texts
from edgert.llm.tokenizer import Tokenizer
from edgert.llm.tokenizer_gguf import tokenizer_from_gguf
from tests.llm.made import byte_metadata, byte_tokenizer, piece_metadata, piece_tokenizer

MADE = {"bytes": byte_tokenizer(), "pieces": piece_tokenizer(), "no prefix": piece_tokenizer(add_space_prefix=False)}
UNICODE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=40)
TEXT = st.lists(UNICODE | st.sampled_from([" the", "  ", "\n\n", "and 123", "<|im_end|>", "<bos>", "</s>", "🎉"])).map(
    "".join
)


@pytest.mark.parametrize("kind", MADE)
@given(TEXT)
@settings(max_examples=80, deadline=None)
def test_text_comes_back_whole_and_in_pieces(kind: str, text: str) -> None:
    tokenizer = MADE[kind]
    if kind == "pieces":
        text = text.replace("</s>", "")  # a space is put after it, too, and only the first is taken off
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not tokenizer.control_ids & set(ids)  # nobody writes control tokens
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in ids]
    assert stream.finish() == ""
    assert "".join(pieces).removeprefix(" " if tokenizer.config["space_prefix"] and text else "") == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_known_ids() -> None:
    tokenizer = MADE["bytes"]
    texts = [tokenizer._inner.id_to_token(i) for i in tokenizer.encode("in the\n\nand  12 all")]
    assert texts == ["in", "Ġthe", "Ċ", "Ċ", "and", "ĠĠ", "1", "2", "Ġ", "a", "ll"]  # digits stand apart
    assert tokenizer.encode("<|im_start|>a", special=True)[0] == 1
    assert MADE["pieces"].encode("", bos=True) == [1] and MADE["bytes"].encode("", bos=True) == []


@pytest.mark.parametrize(
    ("pre", "cut"),
    [
        ("smollm", ["Ġ", "1", "2", "3", "4"]),
        ("qwen2", ["Ġ", "1", "2", "3", "4"]),
        ("llama-bpe", ["Ġ", "123", "4"]),
        ("gpt-2", ["Ġ1234"]),
    ],
)
def test_rules_cut_digits_as_they_say(pre: str, cut: list[str]) -> None:
    tokenizer = byte_tokenizer(pre=pre)
    tokenizer.encode("")  # loads the library's
    words = [word for word, _ in tokenizer._inner.pre_tokenizer.pre_tokenize_str(" 1234")]
    assert words == cut


def test_released_it_decodes_the_same_and_encodes_again() -> None:
    for tokenizer in (byte_tokenizer(), piece_tokenizer()):
        every = [tokenizer.token_bytes(i, special=True) for i in range(tokenizer.vocab)]
        ids = tokenizer.encode("the 🎉")
        tokenizer.release()
        assert tokenizer._inner is None
        assert [tokenizer.token_bytes(i, special=True) for i in range(tokenizer.vocab)] == every
        assert tokenizer.encode("the 🎉") == ids


def test_unfinished_character_is_marked_at_the_end_only() -> None:
    stream = MADE["bytes"].stream()
    ids = MADE["bytes"].encode("🎉")
    assert len(ids) == 4 and [stream.push(i) for i in ids[:3]] == ["", "", ""]
    assert stream.finish() == "\ufffd"


def _by_scores(text: str, scores: dict[str, float]) -> list[str]:
    """SentencePiece's way as it is defined: always the pair with the best score, the leftmost of equals."""
    symbols = list(text)
    while True:
        found = [(-scores[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(symbols)) if a + b in scores]
        if not found:
            return symbols
        at = min(found)[1]
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_merges_do_what_scores_say(data: st.DataObject) -> None:
    words = data.draw(st.lists(st.text("abc", min_size=2, max_size=5), max_size=14, unique=True))
    order = data.draw(st.permutations(["a", "b", "c", "▁", *words]))
    scores = {word: -float(i) for i, word in enumerate(order)}
    tokenizer = piece_tokenizer(scores, add_space_prefix=False)
    text = data.draw(st.text("abc", max_size=24))
    assert [tokenizer._inner.id_to_token(i) for i in tokenizer.encode(text)] == _by_scores(text, scores)


def test_every_piece_that_can_arise_has_one_merge() -> None:
    scores = {"a": -9.0, "b": -9.5, "ab": -1.0, "ba": -2.0, "aba": -3.0, "bb": -4.0, "abab": -0.5}
    # "aba" comes of "ab" + "a" though "a" + "ba" are pieces too
    assert merges_of(scores) == [("ab", "ab"), ("a", "b"), ("b", "a"), ("ab", "a"), ("b", "b")]


def test_facts_the_artifact_carries() -> None:
    _, config = tokenizer_from_gguf(byte_metadata())
    assert config["end_ids"] == [0, 2] and config["bos"] == 1 and not config["add_bos"]
    assert config["chat_template"].startswith("{% for")
    _, config = tokenizer_from_gguf(piece_metadata())
    assert config["end_ids"] == [2] and config["add_bos"]  # "</s>" is HTML here, not an end
    _, config = tokenizer_from_gguf(byte_metadata() | {"tokenizer.ggml.bos_token_id": 1 << 31})
    assert config["bos"] is None


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"model": "rwkv"}, UnsupportedModel, "rwkv"),
        ({"model": None}, UnsupportedModel, "None"),
        ({"pre": "new-thing"}, UnsupportedModel, "new-thing"),
        ({"tokens": []}, EdgertError, "tokens"),
        ({"tokens": "abc"}, EdgertError, "tokens"),
        ({"tokens": ["a", "a"]}, EdgertError, "twice"),
        ({"token_type": [1, 2]}, EdgertError, "token_type"),
        ({"token_type": 7}, EdgertError, "token_type"),
        ({"merges": None}, EdgertError, "merges"),
        ({"merges": ["nospace"]}, EdgertError, "nospace"),
    ],
)
def test_damaged_metadata_is_refused(change: dict, kind: type[EdgertError], says: str) -> None:
    metadata = byte_metadata() | {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    with pytest.raises(kind, match=says):
        tokenizer_from_gguf(metadata)


def test_scores_that_are_missing_are_refused() -> None:
    with pytest.raises(EdgertError, match="scores"):
        tokenizer_from_gguf(piece_metadata() | {"tokenizer.ggml.scores": [0.0]})


def test_damaged_json_and_wrong_use() -> None:
    text, config = tokenizer_from_gguf(byte_metadata())
    with pytest.raises(EdgertError, match="damaged"):
        Tokenizer(text[:100], config)
    with pytest.raises(EdgertError, match="not in the vocabulary"):
        MADE["bytes"].token_bytes(100_000)
    with pytest.raises(EdgertError, match="not valid Unicode"):
        MADE["bytes"].encode("a\ud800")


def test_numpy_lists_do() -> None:
    metadata = piece_metadata()
    types = np.array(metadata["tokenizer.ggml.token_type"], np.int32)
    scores = np.array(metadata["tokenizer.ggml.scores"], np.float32)
    other = metadata | {"tokenizer.ggml.token_type": types, "tokenizer.ggml.scores": scores}
    assert tokenizer_from_gguf(other) == tokenizer_from_gguf(metadata)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)
KEYS = ["model", "pre", "tokens", "token_type", "scores", "merges"]
KEYS += ["bos_token_id", "eos_token_id", "unknown_token_id", "add_bos_token"]


@given(st.booleans(), st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=3), JUNK)
@settings(max_examples=150, deadline=None)
def test_any_metadata_is_taken_or_refused_clearly(pieces: bool, change: dict, template: object) -> None:
    metadata = (piece_metadata if pieces else byte_metadata)()
    metadata |= {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    try:
        Tokenizer(*tokenizer_from_gguf(metadata | {"tokenizer.chat_template": template})).encode("the 12 🎉")
    except EdgertError as error:
        assert "\n" not in str(error)


def test_the_table_of_texts_is_the_librarys() -> None:
    for tokenizer in MADE.values():
        tokenizer.encode("")
        for token in set(range(tokenizer.vocab)) - tokenizer._added.keys():
            text = tokenizer._inner.id_to_token(token) or ""
            written = tokenizer.token_bytes(token)
            if len(text) == 6 and text.startswith("<0x"):
                assert written == bytes([int(text[3:5], 16)])
            elif tokenizer.config["kind"] == "pieces":
                assert written.decode() == text.replace("▁", " ")
            else:
                assert tokenizer._inner.decode([token]) == written.decode("utf-8", "replace")
        added = {i: (t.content, t.special) for i, t in tokenizer._inner.get_added_tokens_decoder().items()}
        assert added == tokenizer._added


@pytest.mark.parametrize("damage", [lambda t: t[:-1], lambda t: t + b"x", lambda t: b"", lambda t: b"\xff" * 4 + t[4:]])
def test_a_damaged_table_of_texts_is_refused(damage: Callable[[bytes], bytes]) -> None:
    json, config = tokenizer_from_gguf(byte_metadata())
    with pytest.raises(EdgertError, match="table of token texts is damaged"):
        Tokenizer(json, config, damage(pack_texts(json, config)))
