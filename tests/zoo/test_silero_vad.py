"""The 16 kHz export gives what the general export in the same wheel gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from compiler.zoo.fetch import fetch_wheel, read_members
from compiler.zoo.registry import find

pytestmark = pytest.mark.registry


def test_same_as_the_general_export(pulled: Callable[[str], Path]) -> None:
    general = "silero_vad/data/silero_vad.onnx"
    reference = onnxruntime.InferenceSession(read_members(fetch_wheel(find("silero-vad").wheel), (general,))[general])
    session = onnxruntime.InferenceSession(pulled("silero-vad"))
    rng = np.random.default_rng(0)
    time = np.arange(40 * 512) / 16000
    # A buzz at 120 Hz with formants and a slow beat: nearer to a voice than noise is.
    sound = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 30)) * (1 + np.sin(2 * np.pi * 4 * time))
    sound = (0.1 * sound + 0.01 * rng.standard_normal(sound.size)).astype(np.float32)
    state = reference_state = np.zeros((2, 1, 128), np.float32)
    context, probabilities = np.zeros(64, np.float32), []
    for frame in sound.reshape(-1, 512):
        x = np.concatenate([context, frame])[None]
        y, state = session.run(None, {"input": x, "state": state})
        expected, reference_state = reference.run(
            None, {"input": x, "state": reference_state, "sr": np.array(16000, np.int64)}
        )
        # Float32 roundings of two exports of the same weights, carried through 40 steps of the LSTM.
        np.testing.assert_allclose(y, expected, atol=1e-4)
        context, _ = frame[-64:], probabilities.append(float(y[0, 0]))
    np.testing.assert_allclose(state, reference_state, atol=1e-3)
    assert max(probabilities) - min(probabilities) > 0.01  # it does listen
