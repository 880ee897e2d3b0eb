"""What is in a GGUF file: architecture, sizes, types of weights, tokenizer, and what its texts take of memory."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from edgert.errors import EdgertError
from edgert.units import format_bytes


def inspect_gguf(path: str) -> tuple[dict[str, Any], str]:
    """(plain data, text for people) of the language model at `path`; nothing is decoded or compiled.

    Raises EdgertError for a damaged file, UnsupportedModel with all that would not compile.
    """
    from compiler.decoder import open_gguf
    from compiler.gguf import read_gguf
    from edgert.llm.tokenizer_gguf import tokenizer_from_gguf

    decoder, _, metadata = open_gguf(path)
    tensors = read_gguf(path).tensors
    types: dict[str, dict[str, int]] = {}
    for tensor in tensors.values():
        entry = types.setdefault(tensor.type.name, {"tensors": 0, "parameters": 0, "bytes": 0})
        entry["tensors"] += 1
        entry["parameters"] += prod(tensor.shape)
        entry["bytes"] += tensor.nbytes
    sizes = ("vocab", "width", "layers", "heads", "kv_heads", "head_dim", "ffn", "context")
    data: dict[str, Any] = {
        "name": decoder.name,
        "architecture": decoder.architecture,
        **{name: getattr(decoder, name) for name in sizes},
        "windows": sorted({window for window in decoder.windows if window is not None}),
        "tied": decoder.tied,
        "file_bytes": Path(path).stat().st_size,
        "parameters": sum(entry["parameters"] for entry in types.values()),
        "types": dict(sorted(types.items(), key=lambda item: -item[1]["bytes"])),
        # keys and values in float16
        "cache_bytes_per_token": 2 * 2 * decoder.layers * decoder.kv_heads * decoder.head_dim,
    }
    try:
        config = tokenizer_from_gguf(metadata)[1]
        data["tokenizer"] = {key: config[key] for key in ("kind", "bos", "eos", "end_ids", "add_bos")}
        data["tokenizer"]["chat_template"] = config["chat_template"] is not None
    except EdgertError as error:
        raise type(error)(f"{path}: {error}") from None
    return data, _text(path, data)


def _text(path: str, data: Mapping[str, Any]) -> str:
    heads = f"{data['heads']} heads of {data['head_dim']} with {data['kv_heads']} of keys and values"
    tokenizer, cache = data["tokenizer"], data["cache_bytes_per_token"]
    template = "a" if tokenizer["chat_template"] else "no"
    lines = [
        f"{_shown(data['name'])}: {data['architecture']} language model, {data['parameters'] / 1e6:.1f} M parameters",
        f"  file    {path}, {format_bytes(data['file_bytes'])}",
        f"  layers  {data['layers']} of width {data['width']}, {heads}, feed-forward {data['ffn']}",
        f"  tokens  {data['vocab']} ({tokenizer['kind']}), {template} chat template",
        f"  context {data['context']} tokens, each {format_bytes(cache)} of cache in float16 "
        f"({format_bytes(cache * data['context'])} for all)",
    ]
    for name, entry in data["types"].items():
        bits = 8 * entry["bytes"] / entry["parameters"]
        size = f"{entry['parameters'] / 1e6:.2f} M parameters, {format_bytes(entry['bytes'])}"
        lines.append(f"  {name:<7} {entry['tensors']} tensors, {size}, {bits:.2f} bits each")
    if data["windows"]:
        lines.insert(5, f"  windows of {', '.join(map(str, data['windows']))} tokens in some layers")
    return "\n".join(lines)


def _shown(name: str) -> str:
    """A name out of a file may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in name)[:200]
