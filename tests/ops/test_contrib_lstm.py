"""DynamicQuantizeLSTM against ONNX Runtime: directions, lengths, peepholes, scales by column."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgert
from targets import all_targets, host_features

from .contrib import check_contrib, compare, contrib_model, session
from .reference import normal

STEPS, BATCH, WIDTH, HIDDEN = 7, 3, 13, 9
# Where nothing falls on another side of a half, only float32 roundings are left: a gate is a scaled integer sum and two
# additions, the functions are good to 2e-7, and 7 steps of |cell| < 8 add them up. A state one step of its uint8 away
# (1/127 at most) would show as weight * that, 1e-3 and more, in what follows; seeds are such that none does.
TOLERANCE = 5e-6


def quantized(
    seed: int, shape: tuple[int, int, int], dtype: str, columns: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [D, K, 4H], scales and zero points ([D], or [D, 4H] with equal zero points)."""
    rng = np.random.default_rng([13, seed])
    info = np.iinfo(dtype)
    data = rng.integers(info.min + (dtype == "int8"), info.max, shape, dtype=dtype, endpoint=True)
    size = (shape[0], shape[2]) if columns else (shape[0],)
    zero = np.full(size, 0 if dtype == "int8" else 131, dtype)
    return data, rng.uniform(0.003, 0.006, size).astype(np.float32), zero


def tensors(
    directions: int, dtype: str = "uint8", columns: bool = False, lengths: bool = False, peep: bool = False,
    hidden: int = HIDDEN,
) -> list[np.ndarray | None]:  # fmt: skip
    w, w_scale, w_zero = quantized(1, (directions, WIDTH, 4 * hidden), dtype, columns)
    r, r_scale, r_zero = quantized(2, (directions, hidden, 4 * hidden), dtype, columns)
    return [
        normal(STEPS, BATCH, WIDTH), w, r, normal(directions, 8 * hidden) / 4,
        np.array([5, 2, 6], np.int32) if lengths else None, normal(directions, BATCH, hidden, seed=1) / 2,
        normal(directions, BATCH, hidden, seed=2), normal(directions, 3 * hidden) if peep else None,
        w_scale, w_zero, r_scale, r_zero,
    ]  # fmt: skip


def check(folder: Path, inputs: list[np.ndarray | None], **attrs: Any) -> None:
    given = [k for k in (0, 4, 5, 6) if inputs[k] is not None]
    hidden = inputs[2].shape[1]
    check_contrib(folder, "DynamicQuantizeLSTM", inputs, ["float32"] * 3, given, TOLERANCE, hidden_size=hidden, **attrs)


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_directions(direction: str, lengths: bool, tmp_path: Path) -> None:
    inputs = tensors(2 if direction == "bidirectional" else 1, lengths=lengths)
    check(tmp_path, inputs, direction=direction)


@pytest.mark.parametrize("columns", [False, True], ids=["one scale", "columns"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_weights(dtype: str, columns: bool, tmp_path: Path) -> None:
    check(tmp_path, tensors(2, dtype, columns, hidden=40), direction="bidirectional")


def test_peepholes(tmp_path: Path) -> None:
    check(tmp_path, tensors(1, peep=True))


@pytest.mark.parametrize("attrs", [{"clip": 0.7}, {"input_forget": 1},
                                   {"activations": ["HardSigmoid", "Softsign", "Tanh"]}], ids=str)  # fmt: skip
def test_forms(attrs: dict[str, Any], tmp_path: Path) -> None:
    check(tmp_path, tensors(1), **attrs)


def test_without_states_and_bias(tmp_path: Path) -> None:
    inputs = tensors(1)
    inputs[3] = inputs[5] = inputs[6] = None
    check(tmp_path, inputs)


@pytest.mark.parametrize("target", sorted(t.name for t in all_targets().values() if t.family == "cpu"))
def test_every_way_to_multiply_bytes(target: str, tmp_path: Path) -> None:
    if not host_features() >= set(all_targets()[target].features):
        pytest.skip(f"this machine's CPU lacks {target}'s features")
    inputs = tensors(2, "uint8", True, hidden=21)
    model = contrib_model("DynamicQuantizeLSTM", inputs, ["float32"] * 3, (0, 5, 6), hidden_size=21,
                          direction="bidirectional")  # fmt: skip
    feeds = {f"i{k}": inputs[k] for k in (0, 5, 6)}
    onnx.save(model, tmp_path / "m.onnx")
    edgert.compile(tmp_path / "m.onnx", tmp_path / "m.edge", target=target, golden=False)
    with edgert.load(tmp_path / "m.edge") as loaded:
        got = loaded.run(feeds)
    for k, wanted in enumerate(session(model).run(None, feeds)):
        compare(got[f"o{k}"], wanted, TOLERANCE, 0)
