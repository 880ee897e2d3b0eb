"""A text that another process tokenizes has the ids that this one would give it."""

import zipfile
from pathlib import Path

import pytest

from edgert.llm.encode_apart import TOKENIZER, EncodedApart
from edgert.llm.tokenizer_gguf import tokenizer_from_gguf
from tests.llm.made import byte_metadata, byte_tokenizer


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
