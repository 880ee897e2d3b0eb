"""The ONNX of every architecture in ONNX Runtime beside a plain forward pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.decoder import open_gguf
from compiler.decoder.session import Session
from compiler.decoder.standard import Weights, to_onnx
from targets.errors import EdgertError
from tests.decoder import forward
from tests.decoder.small import CASES, write

IDS = [3, 120, 77, 5, 5, 99, 0, 64, 31, 127, 8, 2]
PIECES = ([0, 5], [5, 6], [6, 7], [7, 10], [10, 12])  # a prompt, single tokens, several at once


def same(found: np.ndarray, expected: np.ndarray) -> None:
    """Within float32: sums of up to 256 products through up to 7 layers keep about 5 digits of the largest logit."""
    assert found.shape == expected.shape and np.isfinite(expected).all()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("store", ["float", "blocks"])
@pytest.mark.parametrize("case", CASES)
def test_logits(case: str, store: Weights, tmp_path: Path) -> None:
    weights = write(tmp_path / "small.gguf", CASES[case])
    decoder, tensors, _ = open_gguf(tmp_path / "small.gguf")
    session = Session(to_onnx(decoder, tensors, tmp_path / "small.onnx", store), decoder)
    found = np.concatenate([session.feed(IDS[low:high]) for low, high in PIECES])
    same(found, forward.logits(CASES[case], weights, IDS))


def test_short_context_takes_the_short_factors(tmp_path: Path) -> None:
    small = CASES["phi3"]
    weights = write(tmp_path / "small.gguf", small)
    decoder, tensors, _ = open_gguf(tmp_path / "small.gguf", context=16)
    assert decoder.context == 16
    found = Session(to_onnx(decoder, tensors, tmp_path / "small.onnx"), decoder).feed(IDS)
    same(found, forward.logits(small, weights, IDS, "rope_factors_short"))
    assert np.abs(found - forward.logits(small, weights, IDS)).max() > 1e-2  # the others would have been noticed


def test_some_layers_and_positions(tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", CASES["qwen3"])
    decoder, tensors, _ = open_gguf(tmp_path / "small.gguf")
    session = Session(to_onnx(decoder, tensors, tmp_path / "one.onnx", layers=1, context=12), decoder, layers=1)
    assert session.feed(IDS).shape == (12, 128) and len(session.past) == 2
    with pytest.raises(Exception, match=r"position"):
        session.feed([1])


@pytest.mark.parametrize("store", ["float", "blocks"])
def test_valid_onnx_with_its_weights_beside_it(store: Weights, tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", CASES["gemma3"])
    decoder, tensors, _ = open_gguf(tmp_path / "small.gguf")
    path = to_onnx(decoder, tensors, tmp_path / "small.onnx", store)
    onnx.checker.check_model(str(path), full_check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.gguf", "small.onnx", "small.onnx.data"]
    model = onnx.load(path, load_external_data=False)
    assert {node.domain for node in model.graph.node} == {""}
    kept = [t for t in model.graph.initializer if t.data_type in (onnx.TensorProto.UINT4, onnx.TensorProto.UINT8)]
    assert bool(kept) == (store == "blocks")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", CASES["llama"])
    decoder, tensors, _ = open_gguf(tmp_path / "small.gguf")
    with pytest.raises(EdgertError, match=r"cannot write .*missing"):
        to_onnx(decoder, tensors, tmp_path / "missing" / "small.onnx")
