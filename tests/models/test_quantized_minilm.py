"""The sentence encoder quantized and compiled: embeddings, people's judgement, sizes of file and artifact."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgert
from edgert.interface.beside import beside_onnxruntime
from edgert.interface.verify import verify
from quant.contract import Options
from quant.graph import Graph
from quant.linear import linears
from quant.model import prepare, tensor_bytes
from quant.quantize import quantize
from tests.models.quantized import Run, mean_cosine, through_artifact, through_onnxruntime
from tests.quant.test_minilm import encoder, exact, judged, lee

pytestmark = [pytest.mark.registry, pytest.mark.slow]

DIMS = {"seq": (1, 160)}  # the longest item has 154 tokens


@cache
def linear_weights() -> tuple[frozenset[str], frozenset[str]]:
    """Names of the weights of the linear layers, and of all other constants."""
    graph = Graph(prepare(encoder()[0], 21))
    weights = frozenset(layer.weight for layer in linears(graph, Options())[0])
    assert len(weights) == 36
    return weights, frozenset(tensor.name for tensor in graph.proto.initializer) - weights


def made(scheme: str, folder: Path, samples: int = 0, **options) -> Path:  # type: ignore[no-untyped-def]
    source, words = encoder()
    fed = [words.encode(text) for text in lee()[1][:samples]]
    path = folder / "q.onnx"
    quantize(source, path, scheme, fed or None, Options(**options))
    return path


def items() -> list[dict[str, np.ndarray]]:
    return [dict(encoder()[1].encode(item)) for item in lee()[0]]


def check(path: Path, folder: Path, kernel: str) -> Run:
    """Every linear layer runs on integers; what comes out is ONNX Runtime's but for rounding ties.

    A tie that falls the other way moves what follows, and each of six layers rounds anew: embeddings end as far apart
    as rounding is from float32. So codes are compared, as far as those they were computed from are equal. Ties arise
    from what is computed in float32 in another order: some 1e-7 of a value that has up to 255 steps.
    """
    run = through_artifact(path, items(), "embedding", folder, dims=DIMS)
    layers = [name for op, name in run.products() if not op.endswith("Attention")]
    assert len(layers) == 36 and all(kernel in name for name in layers)
    inside = beside_onnxruntime(path, items()[:2], folder / "q.edge")
    assert inside.codes > 4e4  # those of the first layer at least
    assert inside.steps <= 1 and inside.ties <= 1e-4 * inside.codes
    return run


def linear_shares(path: Path, run: Run) -> tuple[float, float]:
    """Bytes of the linear layers' weights, scales and zero points included, as a share of float32: file, artifact."""
    weights, others = linear_weights()
    before = sum(tensor_bytes(t) for t in onnx.load(encoder()[0]).graph.initializer if t.name in weights)
    assert before == 4 * 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    sizes = {tensor.name: tensor_bytes(tensor) for tensor in onnx.load(path).graph.initializer}
    rest = sum(size for name, size in sizes.items() if name in others or name.startswith("embeddings."))
    return (sum(sizes.values()) - rest) / before, (run.manifest["weights_bytes"] - rest) / before


def test_int8_dynamic(tmp_path: Path) -> None:
    path = made("int8-dynamic", tmp_path)
    run = check(path, tmp_path, "u8s8")
    assert mean_cosine(run.outputs, exact()) >= 0.995
    assert judged(run.outputs) >= judged(exact()) - 0.005
    assert max(linear_shares(path, run)) <= 0.27


def test_int4x8(tmp_path: Path) -> None:
    path = made("int4x8", tmp_path, 16, rounding="gptq")
    run = check(path, tmp_path, "s8int4")
    assert mean_cosine(run.outputs, exact()) >= 0.98
    assert judged(run.outputs) >= judged(exact()) - 0.005
    assert max(linear_shares(path, run)) <= 0.17


def test_int4(tmp_path: Path) -> None:
    path = made("int4", tmp_path)
    run = through_artifact(path, items(), "embedding", tmp_path, dims=DIMS)
    assert max(linear_shares(path, run)) <= 0.17
    # weights alone are rounded: nothing to tie, so float32's usual distance on embeddings of length 1
    assert np.abs(run.outputs - through_onnxruntime(path, items(), "embedding")).max() < 1e-5


def test_static_int8_has_integer_products_alone(tmp_path: Path) -> None:
    run = check(made("int8", tmp_path, 8), tmp_path, "u8s8")
    assert len(run.products()) >= 42 and run.on_floats() == []  # 6 attentions among them


def test_an_artifact_whose_layers_round_each_block_finds_itself_right(tmp_path: Path) -> None:
    """Ties that fall the other way move single elements far: what is allowed comes from several such runs."""
    path = tmp_path / "m.edge"
    edgert.compile(encoder()[0], path, dims={"seq": (1, 128)}, quant="int4x8")
    result = verify(str(path))
    assert result.passed and result.tolerance < 0.2  # weights rounded to other codes are 0.17 off and more
