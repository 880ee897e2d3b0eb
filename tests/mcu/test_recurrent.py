"""LSTM and GRU of 16-bit activations and 8-bit weights: near ONNX Runtime's floats, and the same bits on every core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgert
from compiler.zoo import pull
from edgert.interface.simulated import open_simulated
from quant.quantize import quantize
from tests.models.real import speech_like

STEPS, BATCH = 6, 2
ONE = 2.0**-15  # the last place of a hidden state
Feeds = list[dict[str, np.ndarray]]


def cell(op: str, inputs: int, hidden: int, directions: int, folder: Path) -> tuple[Path, Path, Feeds, float]:
    """The network in floats and in 16x8, inputs, and the largest sum of |R| along a row."""
    rng = np.random.default_rng([41, inputs, hidden])
    gates = 4 if op == "LSTM" else 3
    shapes = {
        "w": (directions, gates * hidden, inputs), "r": (directions, gates * hidden, hidden),
        "b": (directions, 2 * gates * hidden),
    }  # fmt: skip
    scale = {"w": 1.5 / np.sqrt(inputs), "r": 1 / np.sqrt(hidden), "b": 0.3}
    weights = {n: (rng.standard_normal(s) * scale[n]).astype(np.float32) for n, s in shapes.items()}
    states = ["h0", "c0"][: gates - 2]
    ports = {"x": (STEPS, BATCH, inputs)} | dict.fromkeys(states, (directions, BATCH, hidden))
    outputs = ["y", "yh", "yc"][: gates - 1]
    attrs = {"direction": "bidirectional" if directions == 2 else "forward", "hidden_size": hidden}
    if op == "GRU":
        attrs["linear_before_reset"] = 1
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w", "r", "b", "", *states], outputs, op, **attrs)], op.lower(),
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ports.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    plain, made = folder / "f32.onnx", folder / "cell.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model), plain)
    feeds = [{n: np.tanh(rng.standard_normal(s)).astype(np.float32) for n, s in ports.items()} for _ in range(3)]
    done = quantize(plain, made, "int16x8", feeds)
    assert [(layer.op, layer.scheme) for layer in done.layers] == [(op, "int16x8")]
    return plain, made, feeds, float(np.abs(weights["r"]).sum(axis=2).max())


def answers(path: Path, feeds: Feeds) -> list[list[np.ndarray]]:
    session = onnxruntime.InferenceSession(path)
    return [session.run(None, f) for f in feeds]


@pytest.mark.parametrize(
    ("op", "inputs", "hidden", "directions", "cores"),
    [
        ("LSTM", 7, 6, 2, ["cortex-m7", "cortex-m0plus"]),
        ("GRU", 5, 9, 2, ["cortex-m4", "cortex-m3"]),
        ("LSTM", 700, 5, 1, ["cortex-m7", "riscv32imac"]),  # sums of 700 products do not fit into int32
    ],
)
def test_cells(op: str, inputs: int, hidden: int, directions: int, cores: list[str], tmp_path: Path) -> None:
    plain, model, feeds, row = cell(op, inputs, hidden, directions, tmp_path)
    edgert.compile(model, tmp_path / "laptop.edge")
    with edgert.load(tmp_path / "laptop.edge", threads=1) as loaded:
        assert any(step["op"] == f"{op}Int16" for step in loaded.manifest["steps"])
        mine = [[v.copy() for v in loaded.run(f).values()] for f in feeds]
    # a step rounds five functions, two products and a state, each by a last place at most, and passes on what the
    # state was off by: through R and a function's slope of at most one
    bound = 8 * ONE * sum((1 + row / 4) ** s for s in range(STEPS))
    assert bound < 0.02
    for got, want, exact in zip(mine, answers(model, feeds), answers(plain, feeds), strict=True):
        for a, b, c in zip(got, want, exact, strict=True):
            assert np.ptp(a) > 0.1
            assert np.abs(a - b).max() < bound
            assert np.abs(a - c).max() < 0.1  # 8-bit weights
    for core in cores:
        edgert.compile(model, tmp_path / f"{core}.elf", target=core, emit="elf", golden=False)
        with open_simulated(str(tmp_path / f"{core}.elf"), f"sim://{core}") as device:
            for want, made in zip(mine, device.run_all(feeds, check_alignment="m0" in core), strict=True):
                for a, b in zip(want, made.values(), strict=True):
                    assert np.array_equal(a.view(np.uint32), b.view(np.uint32)), core


def test_other_cells_stay_in_floats(tmp_path: Path) -> None:
    plain, _, feeds, _ = cell("GRU", 3, 4, 1, tmp_path)
    model = onnx.load(plain)
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.append(helper.make_attribute("hidden_size", 4))
    (layer,) = quantize(model, None, "int16x8", feeds).layers
    assert layer.scheme is None and "linear_before_reset" in layer.reason


@pytest.mark.registry
def test_silero_vad_on_cortex_m7(tmp_path: Path) -> None:
    """Speech detection in 16x8, its state handed on: the laptop's bits, ONNX Runtime's answers but for rounding."""
    source, sound = pull("silero-vad", tmp_path), speech_like()
    frames = [np.concatenate([np.zeros(64, np.float32), sound])[at : at + 576][None] for at in range(0, 5120, 512)]
    session, state, feeds = onnxruntime.InferenceSession(source), np.zeros((2, 1, 128), np.float32), []
    for frame in frames:
        feeds.append({"input": frame, "state": state})
        state = session.run(["stateN"], feeds[-1])[0]
    model = tmp_path / "quantized.onnx"
    assert all(layer.scheme == "int16x8" for layer in quantize(source, model, "int16x8", feeds).layers)
    edgert.compile(model, tmp_path / "laptop.edge", golden=False)
    edgert.compile(model, tmp_path / "m7.elf", target="cortex-m7", emit="elf", golden=False)
    with edgert.load(tmp_path / "laptop.edge", threads=1) as loaded:
        mine = [{n: v.copy() for n, v in loaded.run(f).items()} for f in feeds]
    with open_simulated(str(tmp_path / "m7.elf"), "sim://cortex-m7") as device:
        for got, want in zip(device.run_all(feeds[-3:]), mine[-3:], strict=True):
            assert all(np.array_equal(got[n].view(np.uint32), want[n].view(np.uint32)) for n in want)
    quantized = onnxruntime.InferenceSession(model)
    for f, got in zip(feeds, mine, strict=True):
        # one step: gates within 4 of a last place (2^-15) of exact ones, and cells are as many times their old value
        size = max(1, np.abs(f["state"]).max())
        for name, want in zip(got, quantized.run(list(got), f), strict=True):
            assert np.abs(got[name] - want).max() < 8 * ONE * size
        assert (got["output"] > 0.5) == (session.run(["output"], f)[0] > 0.5)
