"""auto meets its bound with as little as possible in higher precision, and says what and why."""

import numpy as np
import onnx
import pytest

from quant.auto import default_ladder, fewest
from quant.contract import Options
from quant.evaluate import Judge
from quant.quantize import Quantized, quantize
from targets.errors import EdgertError, UsageError
from tests.quant.networks import convolutions, images, model, node

SAMPLES = images(12)
NETWORK = convolutions(disparity=200)


def auto(**settings: object) -> Quantized:
    return quantize(NETWORK, None, "auto", SAMPLES, Options(auto=settings))


def schemes(done: Quantized) -> dict[str, str | None]:
    return {layer.node: layer.scheme for layer in done.layers}


@pytest.fixture(scope="module")
def plain() -> float:
    """SQNR of the output with int8 everywhere."""
    done = quantize(NETWORK, None, "int8", SAMPLES)
    return Judge(done.float_model, SAMPLES).quality(done.model).sqnr_db


@pytest.mark.parametrize(("most", "least"), [(0, 0), (1, 1), (9, 0), (9, 1), (9, 5), (9, 9), (9, 10), (0, 1)])
@pytest.mark.parametrize("known", [False, True])
def test_fewest_finds_the_least_that_holds(most: int, least: int, known: bool) -> None:
    asked = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count >= least

    if least > most and known:
        return  # claims what is not so
    found = fewest(most, holds, known)
    assert found == (least if least <= most else None)
    assert len(asked) == len(set(asked)) <= 6


def test_the_cheapest_scheme_is_kept_where_it_will_do(plain: float) -> None:
    done = auto(min_sqnr=plain - 1)
    assert set(schemes(done).values()) == {"int8"}


def test_a_higher_bound_raises_the_most_harmful_first(plain: float) -> None:
    done = auto(min_sqnr=plain + 3)
    onnx.checker.check_model(done.model, full_check=True)
    assert Judge(done.float_model, SAMPLES).quality(done.model).sqnr_db >= plain + 3
    raised = {layer.node: layer for layer in done.layers if layer.scheme != "int8"}
    assert 0 < len(raised) < len(done.layers)
    assert "conv_c2" in raised  # reads channels of very unlike ranges
    assert all("in int8 it alone leaves" in layer.reason for layer in raised.values())


def test_float32_where_no_rung_will_do(plain: float) -> None:
    done = auto(min_sqnr=plain + 3, ladder=("int8",))
    assert {None, "int8"} == set(schemes(done).values())
    assert Judge(done.float_model, SAMPLES).quality(done.model).sqnr_db >= plain + 3


def test_the_drop_against_labels() -> None:
    labels = np.concatenate(_answers(NETWORK))
    done = auto(max_drop=0.0, labels=labels)
    quality = Judge(done.float_model, SAMPLES, labels).quality(done.model)
    assert (quality.before, quality.after) == (1, 1)


def test_a_bound_that_cannot_be_met_tells_the_best_reached() -> None:
    with pytest.raises(EdgertError, match=r"auto cannot meet the bound: .*at least 500 dB.*the best with any") as error:
        auto(min_sqnr=500)
    assert error.value.exit_code == 1


def test_without_samples_it_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="calibration data"):
        quantize(NETWORK, None, "auto")


def test_ladders_go_by_what_the_model_is_made_of() -> None:
    assert default_ladder(NETWORK) == ("int8", "int16x8")
    products = model([node("MatMul", ["x", "w"], "y")], {"w": np.eye(4)}, (2, 4))
    assert default_ladder(products) == ("int8", "int8-dynamic")


def _answers(proto: onnx.ModelProto) -> list[np.ndarray]:
    from tests.quant.networks import run

    return [row.argmax(axis=-1) for row in run(proto, SAMPLES)]
