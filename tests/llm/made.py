"""Small tokenizers as GGUF metadata, made up here."""

from typing import Any

from edgert.llm.token_texts import _BYTES
from edgert.llm.tokenizer import Tokenizer
from edgert.llm.tokenizer_gguf import tokenizer_from_gguf

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_metadata(pre: str = "smollm", **more: Any) -> dict[str, Any]:
    """Bytes, a few merges, ChatML's tokens: ids 0 to 2 control, then 256 bytes, then merges."""
    merges = ["t h", "th e", "Ġ the", "i n", "l l", "1 2", "a n", "an d", "Ġ and", "Ċ Ċ", "Ġ Ġ"]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *_BYTES, *(line.replace(" ", "") for line in merges)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (len(tokens) - 3),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHATML,
    } | more


def piece_metadata(pieces: dict[str, float] | None = None, **more: Any) -> dict[str, Any]:
    """SentencePiece's kind: <unk>, <bos>, <eos>, 256 bytes, "</s>" user-defined, then scored pieces."""
    if pieces is None:
        words = ["▁t", "▁the", "he", "in", "▁", *"abcdefghijklmnopqrstuvwxyz"]
        pieces = {word: -float(i) for i, word in enumerate(words)}
    tokens = ["<unk>", "<bos>", "<eos>", *(f"<0x{i:02X}>" for i in range(256)), "</s>", *pieces]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 260 + list(pieces.values()),
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [4] + [1] * len(pieces),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    } | {f"tokenizer.ggml.{name}": value for name, value in more.items()}


def byte_tokenizer(**more: Any) -> Tokenizer:
    return Tokenizer(*tokenizer_from_gguf(byte_metadata(**more)))


def piece_tokenizer(pieces: dict[str, float] | None = None, **more: Any) -> Tokenizer:
    return Tokenizer(*tokenizer_from_gguf(piece_metadata(pieces, **more)))
