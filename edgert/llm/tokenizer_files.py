"""The tokenizer that lies beside a model in Hugging Face's files, as the text and the facts an artifact carries.

`tokenizer.json` (the package tokenizers' own format) is kept; `tokenizer_config.json`, `config.json`,
`generation_config.json` and `chat_template.jinja` are read where they are there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgert.errors import EdgertError, UnsupportedModel
from edgert.llm.tokenizer_gguf import END_TEXTS, MOST_TOKENS

TOKENIZER, CHAT = "tokenizer.json", "chat_template.jinja"
FACTS = ("tokenizer_config.json", "config.json", "generation_config.json")
FILES = (TOKENIZER, *FACTS, CHAT)
MOST_BYTES = 1 << 27  # of one file: several times the largest in use


def tokenizer_beside(folder: Path, vocab: int) -> tuple[str, dict[str, Any]]:
    """(tokenizer.json, config), the config as tokenizer_from_gguf gives it, for a model of `vocab` logits.

    Raises UnsupportedModel for another kind than BPE of bytes or of pieces, EdgertError for damaged files."""
    whole = _read(folder / TOKENIZER)
    model = whole.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else None
        raise UnsupportedModel(f"{folder / TOKENIZER}: a tokenizer of the kind {kind!r}; BPE is known")
    steps = {str(step.get("type")) for key in ("decoder", "pre_tokenizer") for step in _steps(whole.get(key))}
    kind = "bytes" if "ByteLevel" in steps else "pieces"
    added = [token for token in whole.get("added_tokens") or () if isinstance(token, dict)]
    try:
        ids = {str(text): int(token) for text, token in model["vocab"].items()}
        tokens = [(int(token["id"]), str(token["content"]), bool(token["special"])) for token in added]
    except (KeyError, TypeError, ValueError) as error:
        raise EdgertError(f"{folder / TOKENIZER} is damaged: {error!r}") from None
    ids |= {text: token for token, text, _ in tokens}
    most = max(ids.values(), default=0)
    if min(ids.values(), default=-1) < 0 or most >= min(vocab, MOST_TOKENS):
        raise EdgertError(f"{folder / TOKENIZER}: has a token {most}, and the model has {vocab}")
    facts = {name: _read(folder / name) for name in FACTS if (folder / name).is_file()}
    named = facts.get(FACTS[0], {})
    bos, eos = (_token(named, name, ids) for name in ("bos_token", "eos_token"))
    ends = {eos} | {token for token, text, special in tokens if special and text in END_TEXTS}
    for name in FACTS[1:]:
        given = facts.get(name, {}).get("eos_token_id")
        ends |= set(given if isinstance(given, list) else [given])
    config = {
        "kind": kind,
        "vocab": vocab,
        "bos": bos,
        "eos": eos,
        "end_ids": sorted(end for end in ends if isinstance(end, int) and 0 <= end < vocab),
        "added": [list(token) for token in tokens],
        "add_bos": bos is not None and bool(named.get("add_bos_token", _begins(whole, bos, ids))),
        "add_eos": False,
        "space_prefix": kind == "pieces" and _space_prefix(whole),
        "chat_template": _template(folder, named),
    }
    kept = {**whole, "truncation": None, "padding": None, "post_processor": None}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")), config


def context_beside(folder: Path) -> int | None:
    """The most positions that the model was made for, where config.json says so."""
    path = folder / FACTS[1]
    given = _read(path).get("max_position_embeddings") if path.is_file() else None
    return given if isinstance(given, int) and given > 1 else None


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise EdgertError(f"{path}: has more than {MOST_BYTES} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EdgertError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise EdgertError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise EdgertError(f"{path} is not a JSON object")
    return value


def _steps(value: Any) -> Iterator[dict[str, Any]]:
    """A step of a pipeline, or the steps of a sequence of them."""
    if isinstance(value, dict):
        yield value
        for key in ("decoders", "pretokenizers", "normalizers"):
            for step in value.get(key) or ():
                yield from _steps(step)


def _token(facts: dict[str, Any], name: str, ids: dict[str, int]) -> int | None:
    """The id of a special token, whose text stands in the file by itself or with its properties."""
    given = facts.get(name)
    text = given.get("content") if isinstance(given, dict) else given
    return ids.get(text) if isinstance(text, str) else None


def _begins(whole: dict[str, Any], bos: int, ids: dict[str, int]) -> bool:
    """Whether the tokenizer's template puts the first token before a text."""
    for processor in (whole.get("post_processor"), *((whole.get("post_processor") or {}).get("processors") or ())):
        single = processor.get("single") if isinstance(processor, dict) else None
        if isinstance(single, list) and single and isinstance(single[0], dict):
            return ids.get(str((single[0].get("SpecialToken") or {}).get("id"))) == bos
    return False


def _space_prefix(whole: dict[str, Any]) -> bool:
    """Whether a text is encoded as if a space stood before it."""
    steps = [*_steps(whole.get("normalizer")), *_steps(whole.get("pre_tokenizer"))]
    return any(
        step.get("type") == "Prepend"
        or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in steps
    )


def _template(folder: Path, facts: dict[str, Any]) -> str | None:
    given = facts.get("chat_template")
    if isinstance(given, list):  # several by name
        given = next((t.get("template") for t in given if isinstance(t, dict) and t.get("name") == "default"), None)
    if given is None and (folder / CHAT).is_file() and (folder / CHAT).stat().st_size <= MOST_BYTES:
        given = (folder / CHAT).read_text(encoding="utf-8", errors="replace")
    return given if isinstance(given, str) else None
