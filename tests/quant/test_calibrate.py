"""Ranges of a model's own values, read in parts."""

import numpy as np
import pytest

from quant.calibrate import activations, calibrate
from quant.contract import Options
from quant.data import open_samples
from quant.model import open_session, prepare
from targets.errors import UsageError
from tests.quant.networks import convolutions, images

MODEL = prepare(convolutions())
VALUES = ["x", *(name for node in MODEL.graph.node for name in node.output)]


def test_parts_give_what_one_session_gives() -> None:
    samples = images(4)
    whole = list(activations(MODEL, samples, VALUES))
    assert len(whole) == 4 and set(whole[0]) == set(VALUES)
    small = list(activations(MODEL, samples, VALUES, budget=3000))
    assert len(small) > 8  # more passes than one
    for name in VALUES:
        found = [values[name] for values in small if name in values]
        assert all(np.array_equal(a, b[name]) for a, b in zip(found, whole, strict=True))
    feeds = samples[2]
    assert np.array_equal(whole[2]["y"], open_session(MODEL).run(["y"], feeds)[0])


def test_ranges_are_those_of_the_values() -> None:
    samples = open_samples(MODEL, images(6))
    steps = []
    ranges = calibrate(MODEL, samples, VALUES, Options(observer="minmax"), progress=lambda *step: steps.append(step))
    for name in VALUES:
        every = [values[name] for values in activations(MODEL, samples, VALUES)]
        assert ranges[name] == (min(v.min() for v in every), max(v.max() for v in every))
    assert [done for _, done, _ in steps] == [1, 2, 3, 4, 5, 6]
    again = calibrate(MODEL, samples, VALUES, Options(observer="mse"))
    assert again == calibrate(MODEL, samples, VALUES, Options(observer="mse"))


def test_auto_takes_the_observer_that_suits() -> None:
    samples = images(6)
    names = VALUES[1:3]
    got = calibrate(MODEL, samples, names, Options(), suited={names[0]: "mse"})
    assert got[names[0]] == calibrate(MODEL, samples, names, Options(observer="mse"))[names[0]]
    assert got[names[1]] == calibrate(MODEL, samples, names, Options(observer="minmax"))[names[1]]


def test_bad_settings_and_values() -> None:
    with pytest.raises(UsageError, match=r"no observer is called 'kl'; there are auto, minmax"):
        calibrate(MODEL, images(1), VALUES, Options(observer="kl"))
    with pytest.raises(UsageError, match="percentile is 40"):
        calibrate(MODEL, images(1), VALUES, Options(observer="percentile", percentile=40))
    with pytest.raises(UsageError, match="NaN or infinite values in"):  # 3e38 times a weight, summed
        calibrate(MODEL, [{"x": np.full((1, 3, 8, 8), 3e38, np.float32)}], VALUES, Options())
    with pytest.raises(UsageError, match="does not run on calibration sample 0"):
        calibrate(MODEL, [{"x": np.zeros((1, 2, 8, 8), np.float32)}], VALUES[1:], Options())
