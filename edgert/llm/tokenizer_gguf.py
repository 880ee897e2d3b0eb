"""GGUF's tokenizer metadata, turned at compile time into a tokenizer.json and the few facts the artifact carries.

The metadata is the plain dict of the file's key-value pairs (GGUF specification, "Tokenizer"). The JSON is what the
`tokenizers` library reads; it is made here without that library."""

import json
import operator
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from edgert.errors import EdgertError, UnsupportedModel
from edgert.llm.pieces import merges_of
from edgert.llm.pretokenizers import pre_tokenizer

MOST_TOKENS = 1 << 22  # sixteen times the largest vocabulary in use; more is a damaged or hostile file

# Tokens that end a turn or the text, by their text, whatever else the file says.
END_TEXTS = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<|end_of_text|>"}
END_TEXTS |= {"</s>", "<eos>", "<EOT>", "<end_of_utterance>", "<｜end▁of▁sentence｜>"}


class TokenType(IntEnum):
    """GGUF's `tokenizer.ggml.token_type`."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3  # never in the user's text: <bos>, <|im_start|>
    USER_DEFINED = 4  # matched in the text before anything else
    UNUSED = 5
    BYTE = 6


def tokenizer_from_gguf(metadata: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(tokenizer.json, config) from GGUF's metadata.

    The config: `kind` ("bytes" or "pieces"), `vocab`, `bos`, `eos` (ids or None), `end_ids` (every id that ends
    generation, sorted), `added` ([id, text, is control] of those found as they stand), `add_bos`, `add_eos`,
    `space_prefix`, `chat_template` (or None). Raises UnsupportedModel for
    a tokenizer model or pre-tokenizer that is not known, EdgertError for metadata that contradicts itself."""
    model = metadata.get("tokenizer.ggml.model")
    if not isinstance(model, str) or model not in _MODELS:
        raise UnsupportedModel(f"tokenizer model {model!r} is not known (known: {', '.join(_MODELS)})")
    tokens, types = _tokens(metadata)
    config: dict[str, Any] = {
        "vocab": len(tokens),
        "bos": _id(metadata, "bos_token_id", len(tokens)),
        "eos": _id(metadata, "eos_token_id", len(tokens)),
        "chat_template": metadata.get("tokenizer.chat_template"),
    }
    if config["chat_template"] is not None and not isinstance(config["chat_template"], str):
        raise EdgertError("tokenizer.chat_template is not text; the file is damaged")
    ends = {config["eos"], *(_id(metadata, f"{name}_token_id", len(tokens)) for name in ("eot", "eom"))} - {None}
    ends |= {i for i, (text, kind) in enumerate(zip(tokens, types, strict=True)) if _is_end(text, kind)}
    config["end_ids"] = sorted(ends)
    for i in ends | ({config["bos"]} - {None}):
        types[i] = TokenType.CONTROL  # so that it cannot come out of the user's text, whatever the file calls it
    parts, defaults = _MODELS[model](metadata, tokens, types)
    config.update(defaults)
    for name in ("add_bos", "add_eos"):
        config[name] = (
            bool(metadata.get(f"tokenizer.ggml.{name}_token", defaults[name])) and config[name[4:]] is not None
        )
    whole = {"version": "1.0", "truncation": None, "padding": None, "post_processor": None} | parts
    whole["added_tokens"] = _added(tokens, types)
    config["added"] = [[token["id"], token["content"], token["special"]] for token in whole["added_tokens"]]
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")), config


def _is_end(text: str, kind: int) -> bool:
    """Whether a token ends a text by its name. "<|...|>" is plain enough; "</s>" is also how HTML strikes through,
    which Gemma has as a user-defined token, so such count only as control tokens (llama.cpp counts them always)."""
    return text in END_TEXTS and (kind == TokenType.CONTROL or (text.startswith("<|") and kind != TokenType.NORMAL))


def _tokens(metadata: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    """The token texts and their types, checked: as many types as tokens, no text twice."""
    tokens: Any = metadata.get("tokenizer.ggml.tokens")
    if not _is_list(tokens, str) or not 0 < len(tokens) <= MOST_TOKENS:
        raise EdgertError(f"tokenizer.ggml.tokens is not a list of 1 to {MOST_TOKENS} texts; the file is damaged")
    named = [text or f"[EMPTY_{i}]" for i, text in enumerate(tokens)]
    if len(set(named)) != len(named):
        raise EdgertError("tokenizer.ggml.tokens has the same text twice; the file is damaged")
    types = _list(metadata.get("tokenizer.ggml.token_type"))
    if types is None:
        return named, [TokenType.NORMAL] * len(named)
    if not _is_list(types, int) or len(types) != len(named):
        raise EdgertError(f"tokenizer.ggml.token_type is not a list of one number for each of {len(named)} tokens")
    return named, [int(kind) for kind in types]


def _list(value: Any) -> Any:
    """A NumPy array as a list of Python's numbers; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def _is_list(value: object, kind: Any) -> bool:
    return (
        isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(isinstance(v, kind) for v in value)
    )


def _id(metadata: Mapping[str, Any], name: str, vocab: int) -> int | None:
    """A special token's id, or None where the file has none or one outside the vocabulary."""
    value = metadata.get(f"tokenizer.ggml.{name}")
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError as error:
        raise EdgertError(f"tokenizer.ggml.{name} is not a whole number; the file is damaged") from error
    return number if 0 <= number < vocab else None


def _added(tokens: Sequence[str], types: Sequence[int]) -> list[dict[str, Any]]:
    """The tokens that are found in the text as they stand; control tokens only where the caller asks for it."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    found = (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.USER_DEFINED)
    return [
        {"id": i, "content": text, "special": kind != TokenType.USER_DEFINED} | plain
        for i, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in found
    ]


def _bpe(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], **options: Any) -> dict[str, Any]:
    base = {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False}
    affixes = {"continuing_subword_prefix": None, "end_of_word_suffix": None, "ignore_merges": False}
    return base | affixes | options | {"vocab": vocab, "merges": merges}


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], types: list[int]) -> tuple[dict, dict]:
    """GPT-2's way: bytes written as printable characters, words cut by an expression, merges by rank."""
    rule = pre_tokenizer(metadata.get("tokenizer.ggml.pre") or "default")
    lines: Any = metadata.get("tokenizer.ggml.merges")
    if not _is_list(lines, str):
        raise EdgertError("tokenizer.ggml.merges is missing or not a list of texts; the file is damaged")
    vocab = {text: i for i, text in enumerate(tokens)}
    merges = []
    for line in lines:
        left, space, right = line.partition(" ")
        if not space:
            raise EdgertError(f"tokenizer.ggml.merges: {line!r} is not two symbols; the file is damaged")
        if left in vocab and right in vocab and left + right in vocab:  # else it leads to no token
            merges.append((left, right))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    splits = [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        for expression in rule.expressions
    ]
    parts = {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        "decoder": byte_level,
        "model": _bpe(vocab, merges, ignore_merges=rule.whole_words),
    }
    return parts, {"kind": "bytes", "add_bos": rule.add_bos, "add_eos": False, "space_prefix": False}


def _pieces(metadata: Mapping[str, Any], tokens: list[str], types: list[int]) -> tuple[dict, dict]:
    """SentencePiece's way: spaces as U+2581, merges by the pieces' scores, bytes for characters without a piece."""
    scores = _list(metadata.get("tokenizer.ggml.scores"))
    if not _is_list(scores, float | int) or len(scores) < len(tokens):
        raise EdgertError(f"tokenizer.ggml.scores is missing or shorter than the {len(tokens)} tokens")
    mergeable = (TokenType.NORMAL, TokenType.UNDEFINED, TokenType.UNUSED)
    rows = zip(tokens, types, scores, strict=False)
    merges = merges_of({text: float(score) for text, kind, score in rows if kind in mergeable})
    unknown = _id(metadata, "unknown_token_id", len(tokens))
    options = {"byte_fallback": True, "fuse_unk": True, "unk_token": None if unknown is None else tokens[unknown]}
    space_prefix = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    spaces: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    decoders = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}]
    if space_prefix:
        spaces.insert(0, {"type": "Prepend", "prepend": "▁"})
    parts = {
        "normalizer": {"type": "Sequence", "normalizers": spaces},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [*decoders, {"type": "Fuse"}]},
        "model": _bpe({text: i for i, text in enumerate(tokens)}, merges, **options),
    }
    return parts, {"kind": "pieces", "add_bos": True, "add_eos": False, "space_prefix": space_prefix}


_MODELS = {"gpt2": _byte_level, "llama": _pieces}
