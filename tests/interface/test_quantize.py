"""The report's page, and calibration data as it lies on disk."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

from edgert.errors import UsageError
from edgert.interface.calibration import calibration, read_labels
from edgert.interface.pairs import parse_percent
from edgert.interface.quantize import QuantizeResult
from edgert.interface.quantize_report import layers_svg, report_html
from quant.evaluate import COSINE, Quality
from quant.report import LayerReport
from tests.quant.networks import convolutions


def layer(name: str, alone: float | None, sqnr: float = 30.0) -> LayerReport:
    return LayerReport(name, "Conv", "int8", "t", sqnr, 0.999, -1.0, 2.0, 0.8, None, 400, 120, alone)


def result(layers: list[LayerReport]) -> QuantizeResult:
    quality = Quality(COSINE, 1.0, 0.99, 20.0, 0.99, None, 7, "y")
    kept = [{"layer": "tail<&>", "op": "LSTM", "reason": 'says "why" & more'}]
    return QuantizeResult(
        "q.onnx", "int8", 1, 4000, 1100, "data.npz", quality, 0.01, "alone_db", layers, {"int8": 2}, kept, [], None, []
    )  # fmt: skip


def test_a_page_of_names_that_are_markup() -> None:
    page = report_html(result([layer("<b>&amp;", 12.0), layer("second", None)]), "<model>.onnx")
    assert "<b>&amp;" not in page and "&lt;b&gt;&amp;amp;" in page
    assert "tail&lt;&amp;&gt;" in page and "&lt;model&gt;.onnx" in page
    assert "7 samples of data.npz" in page and "lost 1 %" in page


def test_bars_are_in_order_and_as_long_as_their_values() -> None:
    svg = ElementTree.fromstring(layers_svg([layer("worst", 10.0), layer("next", 20.0), layer("exact", float("inf"))]))
    space = "{http://www.w3.org/2000/svg}"
    alone = [bar for bar in svg.iter(f"{space}rect") if bar.attrib["fill"] == "#e15759"]
    widths = [float(bar.attrib["width"]) for bar in alone]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert widths[2] == pytest.approx(3 * widths[0], abs=0.3)  # to the end of the scale, 30 dB
    assert [float(bar.attrib["y"]) for bar in alone] == sorted(float(bar.attrib["y"]) for bar in alone)


def test_no_layers_at_all() -> None:
    ElementTree.fromstring(layers_svg([]))
    assert "</html>" in report_html(result([]), "m.onnx")


@pytest.mark.parametrize(("text", "value"), [("0.5%", 0.005), ("1 %", 0.01), ("0.005", 0.005), ("0", 0), ("100%", 1)])
def test_percentages(text: str, value: float) -> None:
    assert parse_percent(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "%", "-1%", "101%", "2", "nan", "half"])
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(ValueError, match="not a percentage"):
        parse_percent(text)


def test_folders_of_arrays_and_of_others(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    onnx.save(convolutions(), model)
    arrays, mixed = tmp_path / "arrays", tmp_path / "mixed"
    for folder in (arrays, mixed):
        folder.mkdir()
    np.save(arrays / "0.npy", np.ones((1, 3, 8, 8), np.float32))
    assert calibration(str(arrays), str(model)) == str(arrays)
    np.save(mixed / "0.npy", np.ones((1, 3, 8, 8), np.float32))
    np.savez(mixed / "1.npz", x=np.zeros((1, 3, 8, 8), np.float32))
    (mixed / "2.xyz").write_text("?")
    samples = iter(calibration(str(mixed), str(model)))
    assert next(samples)["x"].max() == 1  # type: ignore[index]
    assert next(samples)["x"].max() == 0  # type: ignore[index]
    with pytest.raises(UsageError, match=r"2\.xyz: cannot tell"):
        next(samples)


def test_labels_from_either_kind_of_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1], [2]]))
    np.savez(tmp_path / "b.npz", images=np.zeros(2), labels=np.array([1, 2], np.uint8))
    np.savez(tmp_path / "c.npz", one=np.zeros(2), two=np.zeros(2))
    for name in ("a.npy", "b.npz"):
        assert read_labels(str(tmp_path / name)).tolist() == [1, 2]
    with pytest.raises(UsageError, match="no array 'labels'"):
        read_labels(str(tmp_path / "c.npz"))
    (tmp_path / "d.npy").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"d\.npy: cannot be read"):
        read_labels(str(tmp_path / "d.npy"))
