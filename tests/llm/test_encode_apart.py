"""A text that another process tokenizes has the ids that this one would give it."""

import json
import zipfile
from pathlib import Path

import pytest

from edgert.llm.encode_apart import TOKENIZER, EncodedApart, encode
from edgert.llm.tokenizer_gguf import tokenizer_from_gguf
from tests.llm.made import byte_metadata, byte_tokenizer, piece_metadata, piece_tokenizer


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("apart") / "a.edge"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(TOKENIZER, tokenizer_from_gguf(byte_metadata())[0])
    return str(path)


@pytest.mark.parametrize("text", ["", "in the\n\nand  12 all", "<|im_start|>a<|im_end|>", "🎉", "the " * 50_000])
def test_ids(artifact: str, text: str) -> None:
    assert EncodedApart(artifact, text).ids() == byte_tokenizer().encode(text, special=True)


def test_what_cannot_be_encoded_there_is_none(artifact: str, tmp_path: Path) -> None:
    assert EncodedApart(artifact, "\ud800").ids() is None
    assert EncodedApart(str(tmp_path / "missing"), "a").ids() is None


@pytest.mark.parametrize("text", ["", "the hen in the  inn", "a</s>the\n\n<bos>", "日本 the 🎉", "<0x41> thethe"])
def test_what_can_arise_is_enough_of_scored_pieces(text: str) -> None:
    whole = json.loads(tokenizer_from_gguf(piece_metadata())[0])
    assert encode(whole, text) == piece_tokenizer().encode(text, special=True)
