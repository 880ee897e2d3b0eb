"""The front door: files in, one file out, faults told."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from quant.contract import Options
from quant.model import opset_of, prepare, save
from quant.quantize import quantize
from targets.errors import UnsupportedModel, UsageError
from tests.quant.networks import constant, convolutions, images, model, node, run


def test_writes_what_it_returns(tmp_path: Path) -> None:
    onnx.save(convolutions(), tmp_path / "f.onnx")
    np.savez(tmp_path / "c.npz", x=np.concatenate([sample["x"] for sample in images(4)]))
    done = quantize(tmp_path / "f.onnx", tmp_path / "q.onnx", "int8", tmp_path / "c.npz")
    assert onnx.load(tmp_path / "q.onnx") == done.model
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.npz", "f.onnx", "q.onnx"]
    assert 0 < done.bytes_after < 0.5 * done.bytes_before  # scales weigh much beside so few weights
    again = quantize(tmp_path / "f.onnx", None, "int8", tmp_path / "c.npz")
    assert again.model == done.model


def test_prepare_folds_and_raises() -> None:
    statistics = dict(s=np.full(8, 2.0), b=np.ones(8), m=np.zeros(8), v=np.ones(8))
    proto = model(
        [node("Conv", ["x", "w"], "c"), node("BatchNormalization", ["c", "s", "b", "m", "v"], "y")],
        {"w": np.random.default_rng(0).standard_normal((8, 3, 1, 1)), **statistics},
        (1, 3, 8, 8),
    )
    for n in proto.graph.node:
        n.name = "same"
    del proto.graph.value_info[:]
    proto.opset_import[0].version = 11
    ready = prepare(proto, 21)
    proto.graph.node[0].name = "other"
    assert opset_of(ready) == 21 and [n.op_type for n in ready.graph.node] == ["Conv"]
    assert np.allclose(run(ready, images(2)), run(proto, images(2)), rtol=1e-5, atol=1e-6)
    two = model([node("Relu", ["x"], "a"), node("Exp", ["a"], "y")], {}, (1, 3, 8, 8))
    for n in two.graph.node:
        n.name = "same"
    names = [n.name for n in prepare(two).graph.node]
    assert names == ["same", "same_2"] and prepare(two).graph.value_info[0].name == "a"


def test_large_models_keep_weights_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.model._EXTERNAL_FROM", 1000)
    save(convolutions(), tmp_path / "m.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert np.array_equal(constant(onnx.load(tmp_path / "m.onnx"), "w4"), constant(convolutions(), "w4"))
    done = quantize(tmp_path / "m.onnx", tmp_path / "m.onnx", "int8", images(3))  # over itself
    assert np.array_equal(run(onnx.load(tmp_path / "m.onnx"), images(2)), run(done.model, images(2)))


def test_refusals(tmp_path: Path) -> None:
    samples = images(2)
    done = quantize(convolutions(), None, "int8", samples)
    with pytest.raises(UsageError, match=r"quantized already \(it has DequantizeLinear, QuantizeLinear\)"):
        quantize(done.model, None, "int8", samples)
    with pytest.raises(UsageError, match="no scheme is called 'int7'"):
        quantize(convolutions(), None, "int7", samples)
    with pytest.raises(UsageError, match="int8 needs calibration data"):
        quantize(convolutions(), None, "int8")
    with pytest.raises(UsageError, match="the calibration data is empty"):
        quantize(convolutions(), None, "int8", [])
    with pytest.raises(UsageError, match=r"wants shape 1x3x8x8, the sample has 1x3x9x9"):
        quantize(convolutions(), None, "int8", images(1, shape=(1, 3, 9, 9)))
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(UsageError, match=r"m\.onnx: not an ONNX model"):
        quantize(tmp_path / "m.onnx", None, "int8", samples)
    with pytest.raises(UsageError, match="cannot be read"):
        quantize(tmp_path / "absent.onnx", None, "int8", samples)
    with pytest.raises(UsageError, match="the folder does not exist"):
        quantize(convolutions(), tmp_path / "no" / "q.onnx", "int8", samples)
    unknown = model([node("Relu", ["x"], "y")], {}, (1, 3, 8, 8))
    unknown.graph.node[0].op_type = "Unheard"
    with pytest.raises(UnsupportedModel, match="does not load the model"):
        quantize(unknown, None, "int8", samples)


def test_seed_and_limit_are_kept() -> None:
    few = quantize(convolutions(), None, "int8", images(9), Options(limit=2))
    same = quantize(convolutions(), None, "int8", images(2))
    assert few.model == same.model
    assert few.model != quantize(convolutions(), None, "int8", images(9)).model
