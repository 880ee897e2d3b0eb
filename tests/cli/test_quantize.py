"""edgert quantize, and compile --quant, from the outside."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from tests.cli.conftest import Edgert, assert_one_line
from tests.quant.networks import convolutions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m.onnx, 20 samples in cal.npz, labels.npy (float32's own answers), nan.npz, wrong.npz, empty/."""
    made = tmp_path_factory.mktemp("quantize")
    onnx.save(convolutions(disparity=100), made / "m.onnx")
    x = np.random.default_rng(7).standard_normal((20, 3, 8, 8)).astype(np.float32)
    np.savez(made / "cal.npz", x=x)
    np.savez(made / "nan.npz", x=np.where(np.arange(8) == 3, np.nan, x).astype(np.float32))
    np.savez(made / "wrong.npz", x=x[:, :2])
    session = onnxruntime.InferenceSession(made / "m.onnx", providers=["CPUExecutionProvider"])
    np.save(made / "labels.npy", [int(session.run(None, {"x": row[None]})[0].argmax()) for row in x])
    np.savez(made / "none.npz", x=x[:0])
    np.savez(made / "inf.npz", x=np.where(x == x.max(), np.inf, x).astype(np.float32))
    for name, odd in (("empty", None), ("odd", x[1, :, :4]), ("nan", np.full_like(x[1], np.nan))):
        (made / name).mkdir()
        if odd is not None:  # the second sample of a folder
            np.save(made / name / "0.npy", x[0])
            np.save(made / name / "1.npy", odd)
    return made


def test_quantize_writes_a_model_and_a_report(edgert: Edgert, folder: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "q.onnx", tmp_path / "r.html"
    data = ["--calibrate", folder / "cal.npz", "--labels", folder / "labels.npy"]
    result = edgert("quantize", folder / "m.onnx", "-o", out, *data, "--report", page, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["scheme"] == "int8"
    assert found["file_bytes"] == out.stat().st_size
    assert found["bytes_after"] < 0.5 * found["bytes_before"]
    assert found["quality"]["metric"] == "top-1 accuracy" and found["quality"]["before"] == 1
    assert {layer["layer"] for layer in found["layers"]} == {"conv_c1", "conv_c2", "conv_c3", "gemm_y"}
    assert found["ranked_by"] == "alone_db"
    onnx.checker.check_model(onnx.load(out), full_check=True)
    text = page.read_text()
    for word in ("conv_c1", "gemm_y", "top-1 accuracy", "<svg"):
        assert word in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")  # nothing to fetch
    ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    assert {entry.name for entry in tmp_path.iterdir()} == {"q.onnx", "r.html"}


def test_text_names_the_most_harmful_layer(edgert: Edgert, folder: Path, tmp_path: Path) -> None:
    data = ["--calibrate", folder / "cal.npz", "--report", tmp_path / "r.html"]
    result = edgert("quantize", folder / "m.onnx", "-o", tmp_path / "q.onnx", *data)
    assert result.exit_code == 0, result.stderr
    assert "most harmful layers" in result.stdout and "conv_c2" in result.stdout
    assert "mean cosine to the float32 answers: 1.0000 ->" in result.stdout


def test_check_runs_the_result_beside_onnxruntime(edgert: Edgert, folder: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "q.onnx", tmp_path / "r.html"
    given = ["quantize", folder / "m.onnx", "-o", out, "--calibrate", folder / "cal.npz", "--check"]
    result = edgert(*given, "--report", page, "--json")
    assert result.exit_code == 0, result.stderr
    check = json.loads(result.stdout)["check"]
    assert check["samples"] == 4
    assert check["codes"] > 4 * 8 * 8 * 8 * 2  # at least what two convolutions give
    assert check["steps"] <= 1 and check["ties"] <= 1e-3 * check["codes"]
    assert f"of {check['codes']:,} codes computed from equal ones" in page.read_text()
    assert {entry.name for entry in tmp_path.iterdir()} == {"q.onnx", "r.html"}
    text = edgert(*given).stdout
    assert "compiled, beside ONNX Runtime on 4 samples: of " in text
    assert json.loads(edgert(*given[:-1], "--json").stdout)["check"] is None


def test_auto_raises_what_it_must_and_says_so(edgert: Edgert, folder: Path, tmp_path: Path) -> None:
    def measured(*options: object) -> dict:
        data = ["--calibrate", folder / "cal.npz", "--json"]
        result = edgert("quantize", folder / "m.onnx", "-o", tmp_path / "q.onnx", *data, *options)
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)
        assert isinstance(found, dict)
        return found

    plain = measured()["quality"]["sqnr_db"]
    found = measured("--scheme", "auto", "--min-sqnr", plain + 2)
    assert found["quality"]["sqnr_db"] >= plain + 2
    assert 0 < len(found["raised"]) < 4
    assert found["raised"][0]["reason"].startswith("in int8 it alone leaves")


def test_a_bound_that_does_not_hold_writes_nothing(edgert: Edgert, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    out.write_bytes(b"what was there")
    data = ["--calibrate", folder / "cal.npz", "--min-sqnr", "90"]
    result = edgert("quantize", folder / "m.onnx", "-o", out, *data)
    assert_one_line(result, 1, "at least 90 dB", "reached", "nothing written")
    assert_one_line(edgert("quantize", folder / "m.onnx", "-o", out, *data, "--scheme", "auto"), 1, "the best with any")
    assert out.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["int8", "needs --calibrate"]),
        (["--scheme", "int3"], ["'int3'", "int8-dynamic", "auto"]),
        (["--calibrate", "{}/nan.npz"], ["NaN", "nan.npz"]),
        (["--calibrate", "{}/wrong.npz"], ["wrong.npz", "shape"]),
        (["--calibrate", "{}/inf.npz"], ["infinite", "inf.npz"]),
        (["--calibrate", "{}/none.npz"], ["none.npz is empty", "at least one sample"]),
        (["--calibrate", "{}/empty"], ["empty", "no files"]),
        (["--calibrate", "{}/odd"], ["odd/1.npy", "wants shape 1x3x8x8", "3x4x8"]),
        (["--calibrate", "{}/nan"], ["nan/1.npy", "NaN"]),
        (["--scheme", "int8-dynamic", "--evaluate", "{}/wrong.npz"], ["wrong.npz", "shape"]),
        (["--calibrate", "{}/cal.npz", "--keep", "conv_1"], ["--keep conv_1", "conv_c1"]),
        (["--calibrate", "{}/cal.npz", "--observer", "best"], ["'best'", "minmax"]),
        (["--calibrate", "{}/cal.npz", "--max-drop", "half"], ["percentage"]),
        (["--calibrate", "{}/cal.npz", "--labels", "{}/cal.npz"], ["class numbers"]),
        (["--scheme", "int4", "--report", "r.html"], ["measuring needs samples"]),
        (["--scheme", "int4", "--check"], ["measuring needs samples"]),
        (["--calibrate", "{}/cal.npz", "--report", "{}/none/r.html"], ["r.html", "the folder does not exist"]),
    ],
)
def test_wrong_use(edgert: Edgert, folder: Path, tmp_path: Path, options: list[str], words: list[str]) -> None:
    given = [option.format(folder) for option in options]
    result = edgert("quantize", folder / "m.onnx", "-o", tmp_path / "q.onnx", *given)
    assert_one_line(result, 2, *words)
    assert list(tmp_path.iterdir()) == []


def test_the_model_itself_is_not_overwritten(edgert: Edgert, folder: Path) -> None:
    before = (folder / "m.onnx").read_bytes()
    result = edgert("quantize", folder / "m.onnx", "-o", folder / "m.onnx", "--calibrate", folder / "cal.npz")
    assert_one_line(result, 2, "the model itself")
    assert (folder / "m.onnx").read_bytes() == before


def test_a_model_that_is_quantized_already(edgert: Edgert, folder: Path, tmp_path: Path) -> None:
    data = ["--calibrate", folder / "cal.npz"]
    assert edgert("quantize", folder / "m.onnx", "-o", tmp_path / "q.onnx", *data).exit_code == 0
    result = edgert("quantize", tmp_path / "q.onnx", "-o", tmp_path / "q2.onnx", *data)
    assert_one_line(result, 2, "quantized already")


def test_pictures_calibrate(edgert: Edgert, folder: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(1)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(pictures / f"{i}.png")
    out = tmp_path / "q.onnx"
    result = edgert("quantize", folder / "m.onnx", "-o", out, "--calibrate", pictures, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["quality"]["samples"] == 3
    (pictures / "3.png").write_bytes(b"no picture")
    result = edgert("quantize", folder / "m.onnx", "-o", out, "--calibrate", pictures)
    assert_one_line(result, 2, "3.png")


def test_compile_quantizes_first(edgert: Edgert, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.edge"
    data = ["--quant", "int8", "--calibrate", folder / "cal.npz"]
    result = edgert("compile", folder / "m.onnx", "-o", out, *data, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["name"] == "m"
    assert any(note.startswith("quantized: int8") for note in found["notes"])
    assert "quantize" in found["seconds"]
    assert edgert("verify", out).exit_code == 0
    for options, word in (
        (["--quant", "int8"], "needs --calibrate"),
        (data[2:], "--quant"),
        (["--quant", "int3"], "int8"),
    ):
        assert_one_line(edgert("compile", folder / "m.onnx", "-o", out, *options), 2, word)
