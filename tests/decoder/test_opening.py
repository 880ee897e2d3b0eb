"""What a GGUF file must hold to be a decoder, and the report of all that is missing or odd."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.decoder import Rope, open_gguf
from targets.errors import EdgertError, UnsupportedModel, UsageError
from tests.decoder.small import CASES, metadata, write


def refused(path: Path) -> str:
    with pytest.raises(UnsupportedModel) as caught:
        open_gguf(path)
    return str(caught.value)


def opened(tmp_path: Path, case: str):
    write(tmp_path / "small.gguf", CASES[case])
    return open_gguf(tmp_path / "small.gguf")


def test_llama(tmp_path: Path) -> None:
    decoder, weights, found = opened(tmp_path, "llama")
    assert (decoder.heads, decoder.kv_heads, decoder.head_dim, decoder.vocab) == (4, 2, 16, 128)
    assert decoder.tied and "head" not in weights and decoder.windows == (None, None)
    assert decoder.ropes[0] == Rope(10000.0, 16, interleaved=True) and decoder.attention_scale == 0.25
    assert weights["layers.1.k"].shape == (32, 64) and weights["embedding"].shape == (128, 64)
    assert found["general.architecture"] == "llama"


def test_gemma_mixes_windows(tmp_path: Path) -> None:
    decoder = opened(tmp_path, "gemma3").decoder
    assert decoder.windows == (4, 4, 4, 4, 4, None, 4) and decoder.embedding_scale == 8.0
    assert decoder.ropes[0] == Rope(10000.0, 32, False) and decoder.ropes[5] == Rope(1e6, 32, False, scale=0.125)
    assert decoder.post_norms and decoder.qk_norm and decoder.activation == "gelu_tanh"


def test_without_a_window_all_layers_are_alike(tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", CASES["gemma3"], keys={"gemma3.attention.sliding_window": None})
    decoder = open_gguf(tmp_path / "small.gguf").decoder
    assert decoder.windows == (None,) * 7 and set(decoder.ropes) == {Rope(1e6, 32, False, scale=0.125)}


def test_fused_matrices_become_their_parts(tmp_path: Path) -> None:
    decoder, weights, _ = opened(tmp_path, "phi3")
    assert [weights[f"layers.0.{part}"].shape for part in ("q", "k", "v", "gate", "up")] == [(64, 64)] * 3 + [
        (96, 64)
    ] * 2
    assert decoder.windows == (6, 6) and decoder.ropes[0].dims == 8 and len(decoder.ropes[0].factors) == 4


def test_frequencies() -> None:
    rope = Rope(100.0, 4, True, scale=0.5, factors=(1.0, 2.0), magnitude=3.0)
    assert rope.frequencies().tolist() == [0.5, 0.5 * 100**-0.5 / 2]
    cos, sin = rope.tables(3)
    assert cos.shape == sin.shape == (3, 2) and cos[0].tolist() == [3.0, 3.0] and sin[0].tolist() == [0.0, 0.0]


def test_everything_that_is_missing_in_one_report(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    keys = {"gemma3.feed_forward_length": None, "gemma3.attention.layer_norm_rms_epsilon": "small"}
    write(path, CASES["gemma3"], drop="ffn_up", odd="attn_k.weight", keys=keys)
    said = refused(path)
    for part in (
        "small.gguf: gemma3 model",
        "tensor blk.{0-6}.ffn_up.weight is missing",
        "tensor blk.{0-6}.attn_k.weight is [33, 64], expected [32, 64]",
        "gemma3.feed_forward_length is missing",
        "gemma3.attention.layer_norm_rms_epsilon is small, expected a positive number",
    ):
        assert part in said


def test_layers_are_named(tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", CASES["gemma3"], drop="5.attn_q.weight")
    assert "tensor blk.5.attn_q.weight is missing" in refused(tmp_path / "small.gguf")


def test_unknown_tensors(tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", CASES["llama-3"], keys={"general.architecture": "qwen3"})
    said = refused(tmp_path / "small.gguf")
    assert "qwen3.block_count is missing" in said and "blk.0.attn_q.bias is not known" in said


def test_names_are_shown_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    write(path, CASES["llama"])
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn\n\x1b[31m.wgh"))
    said = refused(path)
    assert said.isprintable() and "tensor blk.1.ffn??[31m.wgh is not known" in said


@pytest.mark.parametrize("context", [0, -5])
def test_senseless_context(context: int, tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", CASES["llama"])
    with pytest.raises(UsageError, match=f"context of {context}"):
        open_gguf(tmp_path / "small.gguf", context=context)


@pytest.mark.parametrize("value", ["mamba", "LLaMA", "a" * 5000, 7])
def test_other_architectures(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    write(path, CASES["llama"], keys={"general.architecture": value})
    said = refused(path)
    assert f"has the architecture '{str(value)[:60]}'; known are llama, gemma3, qwen2, qwen3, phi3" in said
    assert len(said) < 300


def test_no_architecture(tmp_path: Path) -> None:
    path = tmp_path / "nothing.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    assert "has no architecture" in refused(path)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "2^31 layers": ({"llama.block_count": 1 << 31}, "block_count is 2147483648"),
    "a million layers": ({"llama.block_count": 1 << 20}, "claims 1048576 layers"),
    "no heads": ({"llama.attention.head_count": 0}, "head_count is 0"),
    "heads not shared evenly": ({"llama.attention.head_count_kv": 3}, "4 heads cannot share 3"),
    "heads as text": ({"llama.attention.head_count": "4"}, "head_count is 4, expected an integer"),
    "heads that differ by layer": ({"llama.attention.head_count_kv": [1, 2]}, "head_count_kv is"),
    "an infinite base": ({"llama.rope.freq_base": float("inf")}, "freq_base is inf"),
    "no number": ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "epsilon is nan"),
    "more rotated than a head has": ({"llama.rope.dimension_count": 18}, "18 rotated elements"),
    "an odd rotation": ({"llama.rope.dimension_count": 7}, "7 rotated elements"),
    "a context of 2^31": ({"llama.context_length": 1 << 31}, "context_length is 2147483648"),
    "experts": ({"llama.expert_count": 8}, "mixture of experts"),
    "YaRN": ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}, "method 'yarn'"),
    "seeing ahead": ({"llama.attention.causal": False}, "not causal"),
    "uneven lengths": ({"llama.attention.value_length": 8}, "different length"),
    "a part of a model": ({"split.count": 3}, "one of 3 parts; join them"),
    "tokens without rows": ({"tokenizer.ggml.tokens": ["x"] * 129}, "129 tokens in the vocabulary, but 128 rows"),
    "capped scores": ({"llama.attn_logit_softcapping": 50.0}, "soft-capped attention"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_senseless_or_unknown_numbers(fault: str, tmp_path: Path) -> None:
    keys, message = FAULTS[fault]
    write(tmp_path / "small.gguf", CASES["llama"], keys=keys)
    assert message in refused(tmp_path / "small.gguf")


def test_one_number_for_each_layer(tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", CASES["llama"], keys={"llama.attention.head_count_kv": [2, 2]})
    assert open_gguf(tmp_path / "small.gguf").decoder.kv_heads == 2


OTHERS = (
    "attention.sliding_window_pattern", "rope.freq_base_swa", "rope.dimension_count", "attention.scale", "expert_count",
    "final_logit_softcapping", "attn_logit_softcapping", "attention.causal", "rope.scaling.attn_factor",
)  # fmt: skip
NUMBERS = [*metadata(CASES["gemma3"]), *(f"gemma3.{key}" for key in OTHERS)]
VALUES = st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 2**31]),
    st.floats(width=32),
    st.booleans(),
    st.text(max_size=9),
    st.lists(st.integers(0, 9), min_size=1, max_size=8),
    st.just(["a", "b"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.dictionaries(st.sampled_from(NUMBERS), VALUES, min_size=1, max_size=3))
def test_any_numbers_open_or_are_refused(keys: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", CASES["gemma3"], keys=keys)
    try:
        decoder = open_gguf(tmp_path / "small.gguf").decoder
    except EdgertError as error:
        assert str(error).startswith("small.gguf: ")
        return
    assert len(decoder.windows) == len(decoder.ropes) == decoder.layers == 7
