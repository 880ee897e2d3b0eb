"""Opens a GGUF file as a decoder: its configuration and its weights by canonical names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from compiler.decoder.architectures import ARCHITECTURES, MODEL, ROPE_TENSORS, Architecture, Slot
from compiler.decoder.config import Decoder
from compiler.decoder.metadata import Numbers
from compiler.decoder.positions import read_ropes
from compiler.gguf import GgufFile, Tensor, read_gguf
from compiler.gguf.file import one_line
from targets.errors import UnsupportedModel, UsageError


class Opened(NamedTuple):
    """A decoder and what it is made of."""

    decoder: Decoder
    weights: Mapping[str, Tensor]
    """`embedding`, `final_norm`, `head` unless tied, and in each layer N, as `layers.N.`: `attn_norm`, `q`, `k`, `v`,
    `o`, `ffn_norm`, `gate`, `up`, `down`; where the model has them `q_bias`, `k_bias`, `v_bias`, `q_norm`, `k_norm`,
    `post_attn_norm`, `post_ffn_norm`. Matrices are [out, in]. Fused ones are given as their parts."""
    metadata: Mapping[str, Any]
    """The file's, tokenizer and all."""


def open_gguf(path: str | Path, context: int | None = None) -> Opened:
    """Open a GGUF file; weights stay on disk until asked for.

    `context` lowers the most positions, which also chooses between LongRoPE's short and long factors. Raises
    EdgertError for a damaged file, UnsupportedModel, which lists everything, for what is not known, and UsageError for
    a context below 1.
    """
    if context is not None and context < 1:
        raise UsageError(f"a context of {context} positions; at least 1 is possible")
    file = read_gguf(path)
    architecture = file.metadata.get("general.architecture")
    family = ARCHITECTURES.get(architecture) if isinstance(architecture, str) else None
    if family is None or not isinstance(architecture, str):
        what = "no architecture" if architecture is None else f"the architecture {str(architecture)[:60]!r}"
        raise UnsupportedModel(f"{file.path.name}: has {what}; known are {', '.join(ARCHITECTURES)}")
    parts = file.metadata.get("split.count", 0)
    if type(parts) is int and parts > 1:
        raise UnsupportedModel(f"{file.path.name}: is one of {parts} parts; join them into one file first")
    numbers = Numbers(file.metadata, architecture)
    layers = numbers.count("block_count")
    if layers > len(file.tensors):
        raise UnsupportedModel(f"{file.path.name}: claims {layers} layers, but has {len(file.tensors)} tensors")
    sizes = _sizes(numbers, file)
    weights = _weights(file, family, layers, sizes, numbers.faults)
    decoder = _decoder(file, family, numbers, layers, sizes, weights, context)
    if numbers.faults:
        listed = one_line("; ".join(numbers.faults))
        raise UnsupportedModel(f"{file.path.name}: {architecture} model that cannot be compiled: {listed}")
    return Opened(decoder, weights, file.metadata)


def _sizes(numbers: Numbers, file: GgufFile) -> dict[str, int]:
    """The sizes that `Slot` names, and heads and kv_heads."""
    width, heads = numbers.count("embedding_length"), numbers.count("attention.head_count")
    head = numbers.count("attention.key_length", max(1, width // heads))
    if numbers.count("attention.value_length", head) != head:
        numbers.faults.append("keys and values of different length")
    kv_heads = numbers.count("attention.head_count_kv", heads)
    if heads % kv_heads:
        numbers.faults.append(f"{heads} heads cannot share {kv_heads} key and value heads")
    embedding = file.tensors.get("token_embd.weight")
    vocab = embedding.shape[0] if embedding else 1  # a missing one is told with the other tensors
    tokens = file.metadata.get("tokenizer.ggml.tokens", ())
    if embedding and isinstance(tokens, list) and len(tokens) > vocab:
        numbers.faults.append(f"{len(tokens)} tokens in the vocabulary, but {vocab} rows in token_embd.weight")
    return {
        "width": width, "heads": heads, "kv_heads": kv_heads, "head": head, "vocab": vocab,
        "q": heads * head, "kv": kv_heads * head, "ffn": numbers.count("feed_forward_length"),
    }  # fmt: skip


def _decoder(
    file: GgufFile,
    family: Architecture,
    numbers: Numbers,
    layers: int,
    sizes: dict[str, int],
    weights: Mapping[str, Tensor],
    context: int | None,
) -> Decoder:
    most = numbers.count("context_length")
    context = min(most, context or most)
    windows, ropes = read_ropes(file.tensors, family, numbers, layers, sizes["head"], context)
    if numbers.given("expert_count"):
        numbers.faults.append("mixture of experts")
    if numbers.value("attention.causal") is False:
        numbers.faults.append("attention that is not causal")
    if numbers.given("attn_logit_softcapping"):
        numbers.faults.append("soft-capped attention scores")
    by_width = layers == family.width_scaled_layers
    scaled = sizes["width"] / sizes["heads"] if by_width else sizes["head"]
    return Decoder(
        architecture=numbers.architecture,
        name=str(file.metadata.get("general.name", file.path.stem)),
        vocab=sizes["vocab"],
        width=sizes["width"],
        layers=layers,
        heads=sizes["heads"],
        kv_heads=sizes["kv_heads"],
        head_dim=sizes["head"],
        ffn=sizes["ffn"],
        context=context,
        norm_eps=numbers.real("attention.layer_norm_rms_epsilon"),
        activation=family.activation,
        attention_scale=numbers.real("attention.scale", scaled**-0.5),
        windows=windows,
        ropes=ropes,
        embedding_scale=sizes["width"] ** 0.5 if family.scaled_embedding else 1.0,
        qk_norm="layers.0.q_norm" in weights,
        post_norms="layers.0.post_attn_norm" in weights,
        qkv_bias="layers.0.q_bias" in weights,
        tied="head" not in weights,
        final_softcap=numbers.real("final_logit_softcapping") if numbers.given("final_logit_softcapping") else 0.0,
    )


def _weights(
    file: GgufFile, family: Architecture, layers: int, sizes: dict[str, int], faults: list[str]
) -> dict[str, Tensor]:
    """All slots filled; missing, odd-shaped and unknown tensors become faults, one for all layers where alike."""
    weights: dict[str, Tensor] = {}
    unused = dict.fromkeys(name for name in file.tensors if name not in ROPE_TENSORS)
    for slot in MODEL:
        fault = _fill(weights, file, slot.gguf, "", slot, sizes)
        unused.pop(slot.gguf, None)
        if fault and not (slot.optional and fault == _MISSING):
            faults.append(f"tensor {slot.gguf} {fault}")
    for slot in family.layer:
        found: dict[str, list[int]] = {}
        for index in range(layers):
            name = f"blk.{index}.{slot.gguf}"
            fault = _fill(weights, file, name, f"layers.{index}.", slot, sizes)
            unused.pop(name, None)
            if fault:
                found.setdefault(fault, []).append(index)
        if slot.optional and len(found.get(_MISSING, ())) == layers:
            continue
        for fault, where in found.items():
            faults.append(f"tensor blk.{_ranges(where)}.{slot.gguf} {fault}")
    faults.extend(f"tensor {name} is not known" for name in unused)
    return weights


_MISSING = "is missing"


def _fill(weights: dict[str, Tensor], file: GgufFile, name: str, prefix: str, slot: Slot, sizes: dict[str, int]) -> str:
    """Put the tensor's parts into `weights`; returns what is wrong with it, or nothing."""
    tensor = file.tensors.get(name)
    if tensor is None:
        return _MISSING
    rows = [sizes[size] for _, size in slot.parts]
    shape = (sum(rows),) if slot.columns is None else (sum(rows), sizes[slot.columns])
    if tensor.shape != shape:
        return f"is {list(tensor.shape)}, expected {list(shape)}"
    start = 0
    for (part, _), count in zip(slot.parts, rows, strict=True):
        weights[prefix + part] = tensor if len(rows) == 1 else tensor.take(start, start + count)
        start += count
    return ""


def _ranges(indices: list[int]) -> str:
    """3 -> "3", [0, 1, 2, 5] -> "{0-2,5}"."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1] = [runs[-1][0], index]
        else:
            runs.append([index])
    text = ",".join("-".join(map(str, run)) for run in runs)
    return text if text.isdigit() else "{" + text + "}"
