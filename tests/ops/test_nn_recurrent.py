"""LSTM, GRU and RNN: directions, lengths, activations, against ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgert

from .reference import check, model_of, normal

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, WIDTH, HIDDEN = 6, 3, 5, 4


def tensors(op: str, directions: int, lengths: bool, peephole: bool = False) -> list[np.ndarray | None]:
    gates = GATES[op]
    given: list[np.ndarray | None] = [
        normal(STEPS, BATCH, WIDTH), normal(directions, gates * HIDDEN, WIDTH),
        normal(directions, gates * HIDDEN, HIDDEN),
        normal(directions, 2 * gates * HIDDEN), np.array([6, 2, 4], np.int32) if lengths else None,
        normal(directions, BATCH, HIDDEN, seed=1),
    ]  # fmt: skip
    if op == "LSTM":
        given.append(normal(directions, BATCH, HIDDEN, seed=2))
        given.append(normal(directions, 3 * HIDDEN) if peephole else None)
    return given


def outputs(op: str) -> int:
    return 3 if op == "LSTM" else 2


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_directions(op: str, direction: str, lengths: bool, tmp_path: Path) -> None:
    given = tensors(op, 2 if direction == "bidirectional" else 1, lengths)
    check(tmp_path, op, given, outputs(op), constant=[1, 2, 3], direction=direction, hidden_size=HIDDEN)


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru linear": ("GRU", {"linear_before_reset": 1}),
    "gru activations": (
        "GRU",
        {"activations": ["HardSigmoid", "Softsign"], "activation_alpha": [0.3], "activation_beta": [0.4]},
    ),
    "lstm clip": ("LSTM", {"clip": 0.5}),
    "gru clip": ("GRU", {"clip": 0.5}),
    "rnn clip": ("RNN", {"clip": 0.5}),
    "lstm coupled": ("LSTM", {"input_forget": 1}),
    "lstm activations": ("LSTM", {"activations": ["Sigmoid", "Elu", "Softplus"]}),
    "rnn relu": ("RNN", {"activations": ["Relu"]}),
    "rnn affine": ("RNN", {"activations": ["Affine"], "activation_alpha": [0.2], "activation_beta": [0.1]}),
    "rnn leaky": ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.05]}),
    "rnn scaled": ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [0.9], "activation_beta": [0.7]}),
    "rnn threshold": ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.3]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, tmp_path: Path) -> None:
    op, attrs = FORMS[form]
    check(tmp_path, op, tensors(op, 1, False), outputs(op), constant=[1, 2, 3], hidden_size=HIDDEN, **attrs)


def test_peepholes_and_weights_at_run_time(tmp_path: Path) -> None:
    check(tmp_path, "LSTM", tensors("LSTM", 1, True, peephole=True), 3, hidden_size=HIDDEN)


@pytest.mark.parametrize("op", GATES)
def test_batch_first_gives_the_same(op: str, tmp_path: Path) -> None:
    """ONNX Runtime refuses layout=1, so it is compared with layout=0 on turned tensors."""
    from .reference import answers

    given = tensors(op, 2, True)
    turned = list(given)
    for k in (0, 5, 6):
        state = given[k] if k < len(given) else None
        if state is not None:
            turned[k] = np.ascontiguousarray(state.swapaxes(0, 1))
    results = []
    for layout, arrays in enumerate((given, turned)):
        model = model_of(
            op, arrays, outputs(op), [1, 2, 3], 17, direction="bidirectional", hidden_size=HIDDEN, layout=layout
        )
        feeds = {f"i{k}": v for k, v in enumerate(arrays) if v is not None and k not in (1, 2, 3)}
        results.append(answers(model, feeds, tmp_path))
    first, second = results
    np.testing.assert_array_equal(first["o0"], second["o0"].transpose(1, 2, 0, 3))
    for k in range(1, outputs(op)):
        np.testing.assert_array_equal(first[f"o{k}"], second[f"o{k}"].transpose(1, 0, 2))


def test_a_tail_of_the_same_shape(tmp_path: Path) -> None:
    """A GRU's results go through an element-wise operator: a kernel of its own, as recurrent ones have no tail."""
    weights = normal(1, 12, WIDTH), normal(1, 12, HIDDEN)
    graph = helper.make_graph(
        [helper.make_node("GRU", ["x", "w", "r"], ["h"], hidden_size=HIDDEN), helper.make_node("Tanh", ["h"], ["y"])],
        "tail", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, BATCH, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, "wr", strict=True)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    edgert.compile(tmp_path / "m.onnx", tmp_path / "m.edge", golden=False)
    x = normal(STEPS, BATCH, WIDTH)
    (wanted,) = ort.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x})
    with edgert.load(tmp_path / "m.edge") as loaded:
        np.testing.assert_allclose(loaded.run({"x": x})["y"], wanted, atol=1e-6)  # of tanh: a few roundings near 1
