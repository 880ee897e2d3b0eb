"""The report's numbers against the same numbers worked out here."""

import math

import numpy as np
import pytest

from quant.contract import Options
from quant.evaluate import COSINE, TOP1, Bound, Judge
from quant.quantize import Quantized, quantize
from quant.report import Report, code_ranges, make_report
from quant.similarity import Similarity
from quant.splice import Splice
from quant.taps import Taps
from targets.errors import UsageError
from tests.quant.networks import convolutions, images, run

SAMPLES = images(12)


@pytest.fixture(scope="module")
def done() -> Quantized:
    return quantize(convolutions(disparity=200), None, "int8", SAMPLES, Options(bias_correction=False))


@pytest.fixture(scope="module")
def report(done: Quantized) -> Report:
    judge = Judge(done.float_model, SAMPLES)
    return make_report("int8", done.ready, done.model, done.layers, judge, SAMPLES)


def decibels(reference: np.ndarray, value: np.ndarray) -> float:
    wide = reference.astype(np.float64)
    return float(10 * np.log10(np.square(wide).sum() / np.square(value - wide).sum()))


def test_similarity_by_parts_is_that_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 5, 40)).astype(np.float32)
    similarity = Similarity()
    for row in range(5):
        similarity.add(one[row], two[row])
    assert similarity.sqnr_db == pytest.approx(decibels(one, two))
    flat = one.reshape(-1), two.reshape(-1)
    cosine = float(flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1]))
    assert similarity.cosine == pytest.approx(cosine, abs=1e-6)
    assert (similarity.low, similarity.high) == (one.min(), one.max())


@pytest.mark.parametrize(
    ("reference", "value", "sqnr", "cosine"),
    [([0, 0], [0, 0], math.inf, 1), ([0, 0], [0, 1], -math.inf, 0), ([1, 2], [1, 2], math.inf, 1), ([1], [1, 1], 0, 0)],
)
def test_similarity_at_its_ends(reference: list, value: list, sqnr: float, cosine: float) -> None:
    similarity = Similarity()
    similarity.add(np.array(reference, np.float32), np.array(value, np.float32))
    assert (similarity.sqnr_db, similarity.cosine) == (sqnr, cosine)


def test_every_layer_is_measured_at_its_output(done: Quantized, report: Report) -> None:
    assert {layer.layer for layer in report.layers} == {"conv_c1", "conv_c2", "conv_c3", "gemm_y"}
    whole = Splice(done.ready, {"q": done.model}).whole("q")
    tensors = [layer.tensor for layer in report.layers]
    exact, rounded = Taps(done.ready, tensors), Taps(whole, tensors)
    for layer in report.layers:
        one = np.stack([exact.run(sample)[layer.tensor] for sample in SAMPLES])
        two = np.stack([rounded.run(sample)[layer.tensor] for sample in SAMPLES])
        assert layer.sqnr_db == pytest.approx(decibels(one, two), abs=1e-3)
        assert 0.9 < layer.cosine <= 1
        assert layer.low == one.min() and layer.high == one.max()


def test_harm_alone_is_that_of_a_model_with_one_layer_quantized(done: Quantized, report: Report) -> None:
    first = SAMPLES[:8]
    exact = run(done.float_model, first)
    for layer in report.layers:
        options = Options(only=frozenset({layer.layer}), bias_correction=False)
        alone = quantize(done.float_model, None, "int8", SAMPLES, options).model
        # The rewriter also rounds that layer's output; here it is its reader that does.
        assert layer.alone_db is not None
        assert layer.alone_db >= decibels(exact, run(alone, first)) - 1
    harms = [layer.alone_db for layer in report.layers]
    assert harms == sorted(harms)  # type: ignore[type-var]
    # the channels' very unlike ranges are those of the first layer's output, which the second reads
    assert report.layers[0].layer == "conv_c2"


def test_bytes_and_ranges(done: Quantized, report: Report) -> None:
    conv = next(layer for layer in report.layers if layer.layer == "conv_c1")
    assert conv.bytes_before == 4 * (8 * 27 + 8)
    assert 8 * 27 + 8 * 4 < conv.bytes_after < conv.bytes_before
    assert conv.low == 0  # its Relu is within the layer
    assert conv.range_used is not None and 0.5 < conv.range_used <= 1
    assert conv.clipped is not None and 0 <= conv.clipped < 0.5
    assert report.bytes_before == done.bytes_before
    assert all(
        low <= 0 <= high for low, high in code_ranges(Splice(done.ready, {"q": done.model}).graphs["q"]).values()
    )


def test_ranking_without_harm_alone(done: Quantized) -> None:
    judge = Judge(done.float_model, SAMPLES)
    made = make_report("int8", done.ready, done.model, done.layers, judge, SAMPLES, alone=False)
    assert made.ranked_by == "sqnr_db"
    assert all(layer.alone_db is None for layer in made.layers)
    values = [layer.sqnr_db for layer in made.layers]
    assert values == sorted(values)


def test_equalized_models_are_compared_with_what_was_rewritten() -> None:
    made = quantize(convolutions(disparity=200), None, "int8", SAMPLES, Options(equalize=True))
    judge = Judge(made.float_model, SAMPLES)
    report = make_report("int8", made.ready, made.model, made.layers, judge, SAMPLES)
    # Values between the layers have other scales now; against the model before, they would have nothing in common.
    assert all(layer.cosine > 0.95 for layer in report.layers)


def test_accuracy_with_labels_and_without(done: Quantized) -> None:
    exact = run(done.float_model, SAMPLES).reshape(12, 5).argmax(axis=1)
    rounded = run(done.model, SAMPLES).reshape(12, 5).argmax(axis=1)
    labels = exact.copy()
    labels[:3] = (labels[:3] + 1) % 5
    quality = Judge(done.float_model, SAMPLES, labels).quality(done.model)
    assert quality.metric == TOP1
    assert quality.before == 9 / 12
    assert quality.after == np.mean(rounded == labels)
    assert quality.agreement == np.mean(exact == rounded)
    plain = Judge(done.float_model, SAMPLES).quality(done.model)
    assert (plain.metric, plain.before) == (COSINE, 1)
    assert 0.9 < plain.after == plain.cosine < 1
    assert plain.drop == pytest.approx(1 - plain.cosine)


@pytest.mark.parametrize("labels", [[1] * 11, [1] * 13])
def test_labels_that_do_not_fit(done: Quantized, labels: list[int]) -> None:
    with pytest.raises(UsageError, match=r"labels do not fit: there are 1[13] labels for 12 samples"):
        Judge(done.float_model, SAMPLES, np.array(labels)).quality(done.model)


def test_bounds_tell_what_they_miss(done: Quantized) -> None:
    quality = Judge(done.float_model, SAMPLES).quality(done.model)
    assert Bound(max_drop=quality.drop, min_sqnr=quality.sqnr_db).miss(quality) == ""
    assert Bound(max_drop=quality.drop, min_sqnr=quality.sqnr_db).holds(quality)
    tight = Bound(max_drop=quality.drop / 2, min_sqnr=quality.sqnr_db + 1)
    assert not tight.holds(quality)
    assert "the drop is" in tight.miss(quality) and "SQNR" in tight.miss(quality)
