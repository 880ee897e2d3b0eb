"""The sentence encoder by the schemes for products: embeddings against float32, and against people's judgement.

The Lee corpus: 50 news items, each pair's likeness judged by people (Lee, Pincombe & Welsh 2005), as gensim ships it;
its 300 background items, which are others, serve for calibration.
"""

import io
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.zoo import pull
from compiler.zoo.fetch import fetch_wheel, read_members
from compiler.zoo.model import Wheel
from compiler.zoo.wordpiece import WordPiece
from quant.contract import Options
from quant.graph import Graph
from quant.linear import linears
from quant.model import open_session, prepare, tensor_bytes
from quant.quantize import quantize
from quant.schemes import SCHEMES, ActivationFormat, Scheme
from targets.errors import EdgertError

pytestmark = [pytest.mark.slow, pytest.mark.registry]

GENSIM = Wheel(
    project="gensim",
    version="4.4.0",
    sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
    nbytes=27809988,
    platform="manylinux_2_28_x86_64",  # the file differs by Python version too: this one is for 3.11
)
FOLDER = "gensim/test/test_data/"
TEXTS = tuple(FOLDER + name for name in ("lee.cor", "lee_background.cor", "similarities0-1.txt"))
PAIRS = np.triu_indices(50, 1)
_FOLDER = tempfile.TemporaryDirectory()  # removed when the tests end


@cache
def lee() -> tuple[list[str], list[str], np.ndarray]:
    """The 50 items, the background items, and people's judgement [50, 50]."""
    try:
        files = read_members(fetch_wheel(GENSIM), TEXTS)
    except EdgertError as error:
        pytest.skip(f"the Lee corpus is not to be had: {error}")
    items, background = ([line for line in files[n].decode("latin-1").split("\n") if line.strip()] for n in TEXTS[:2])
    return items, background, np.loadtxt(io.BytesIO(files[TEXTS[2]]))


@cache
def encoder() -> tuple[Path, WordPiece]:
    try:
        source = pull("minilm", _FOLDER.name)
    except EdgertError as error:
        pytest.skip(f"minilm is not to be had: {error}")
    return source, WordPiece(source.parent / "minilm.vocab.txt")


def embeddings(model: onnx.ModelProto) -> np.ndarray:
    """[50, 384] of length 1, the graph run as it is written."""
    _, words = encoder()
    session = open_session(model, optimise=False)
    return np.concatenate([session.run(["embedding"], words.encode(item))[0] for item in lee()[0]])


@cache
def exact() -> np.ndarray:
    return embeddings(onnx.load(encoder()[0]))


def judged(vectors: np.ndarray) -> float:
    """Pearson's correlation with people's judgement."""
    return float(np.corrcoef((vectors @ vectors.T)[PAIRS], lee()[2][PAIRS])[0, 1])


def made(scheme: str | Scheme, samples: int = 0, **options) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    source, words = encoder()
    fed = [words.encode(text) for text in lee()[1][:samples]]
    return quantize(source, None, scheme, fed or None, Options(**options)).model


def check(model: onnx.ModelProto, cosine: float, drop: float) -> None:
    vectors = embeddings(model)
    assert (vectors * exact()).sum(axis=1).mean() >= cosine
    assert judged(vectors) >= judged(exact()) - drop


def test_float32_agrees_with_people() -> None:
    assert judged(exact()) > 0.6


# One range a tensor leaves 0.9943: a few loud features of the layer normalisations coarsen every row's steps.
@pytest.mark.parametrize(("per", "cosine"), [("row", 0.995), ("tensor", 0.99)])
def test_int8_dynamic(per: str, cosine: float) -> None:
    check(made(replace(SCHEMES["int8-dynamic"], activations=ActivationFormat("int8", True, False, per))), cosine, 0.005)


def test_int8_outlier() -> None:
    check(made("int8-outlier", 16), 0.999, 0.005)


def test_int4x8_by_gptq() -> None:
    check(made("int4x8", 64, rounding="gptq"), 0.98, 0.005)


@pytest.mark.parametrize("scheme", ["int4", "uint4", "nf4", "codebook"])
def test_four_bits_without_calibration(scheme: str) -> None:
    # No bar but that no layer is broken: 0.955 to 0.97 is what rounding to nearest leaves of six layers.
    check(made(scheme), 0.95, 0.02)


@pytest.mark.parametrize(("scheme", "share"), [("int8-dynamic", 0.27), ("int4", 0.17), ("uint4", 0.17), ("nf4", 0.14)])
def test_size_of_the_linear_layers(scheme: str, share: float) -> None:
    source, _ = encoder()
    before = Graph(prepare(source, 21))
    layers, _ = linears(before, Options())
    assert len(layers) == 36
    weights = {layer.weight for layer in layers}
    after = made(scheme, embeddings=False).graph.initializer
    left = {t.name for t in before.proto.initializer} - weights  # neither weights nor what became of them
    stored = sum(tensor_bytes(t) for t in after if t.name not in left)
    assert stored <= share * sum(tensor_bytes(t) for t in before.proto.initializer if t.name in weights)
