"""Real models on labelled data: int8 as the defaults make it, run by ONNX Runtime, against float32."""

import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.zoo import pull
from compiler.zoo.fetch import fetch_wheel
from compiler.zoo.model import Wheel
from compiler.zoo.samples import FOOLBOX
from compiler.zoo.state_dict import read_state_dict
from quant.model import open_session
from quant.quantize import quantize
from tests.quant.networks import model, node

SHARED = Path(__file__).parents[3] / "shared"
DIGITS = Wheel(
    project="digit-recognizer-py",
    version="0.1.0",
    sha256="58a3132a4c3ccf04175142e0c9464e5fe132421aa26d7130cbd6b1d2c03c7b12",
    nbytes=1464009,
)


def answers(proto: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """The first output, row for row."""
    session = open_session(proto)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def right(proto: onnx.ModelProto, images: np.ndarray, labels: np.ndarray) -> float:
    return float((answers(proto, images).argmax(1) == labels).mean())


def test_visual_wake_words() -> None:
    if not SHARED.is_dir():
        pytest.skip("the shared test material is absent")
    data = np.load(SHARED / "data/vww/vww_500.npz")
    images = np.ascontiguousarray((data["images"].astype(np.float32) / 255).transpose(0, 3, 1, 2))
    chosen = np.arange(len(images)) % 5 == 0
    source = onnx.load(SHARED / "models/vww/vww_96_float.onnx")
    name = source.graph.input[0].name
    done = quantize(source, None, "int8", [{name: image[None]} for image in images[chosen]])
    rest, labels = images[~chosen], data["labels"][~chosen]
    assert right(done.model, rest, labels) >= right(source, rest, labels) - 0.005


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits, float32 [n, 8, 8] in 0 to 1, and what they are."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    return (data.images / 16).astype(np.float32), data.target


def dense(hidden: tuple[int, ...]) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """A classifier of digits with such hidden layers, trained on the first 900; all digits [n, 64], and labels."""
    images, labels = digits()
    flat = images.reshape(len(images), -1)
    if hidden:
        from sklearn.neural_network import MLPClassifier

        trained = MLPClassifier(hidden, max_iter=300, random_state=0).fit(flat[:900], labels[:900])
        layers = list(zip(trained.coefs_, trained.intercepts_, strict=True))
    else:
        from sklearn.linear_model import LogisticRegression

        linear = LogisticRegression(max_iter=200).fit(flat[:900], labels[:900])
        layers = [(linear.coef_.T, linear.intercept_)]
    nodes, weights, value = [], {}, "x"
    for i, (matrix, bias) in enumerate(layers):
        weights |= {f"w{i}": matrix, f"b{i}": bias}
        out = "y" if i == len(layers) - 1 else f"h{i}"
        nodes.append(node("Gemm", [value, f"w{i}", f"b{i}"], out))
        if out != "y":
            nodes.append(node("Relu", [out], value := f"r{i}"))
    return model(nodes, weights, (1, 64)), flat, labels


@pytest.mark.parametrize("hidden", [(), (64, 32)], ids=["logistic", "perceptron"])
def test_scikit_learns_digits(hidden: tuple[int, ...]) -> None:
    proto, flat, labels = dense(hidden)
    done = quantize(proto, None, "int8", [{"x": row[None]} for row in flat[:100]])
    assert all(layer.scheme for layer in done.layers)
    before = right(proto, flat[900:], labels[900:])
    assert before > 0.88
    assert right(done.model, flat[900:], labels[900:]) >= before - 0.005


def mnist() -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """A network trained on MNIST out of a package; scikit-learn's digits as it takes them, [n, 1, 28, 28], labels."""
    image = pytest.importorskip("PIL.Image")
    with zipfile.ZipFile(fetch_wheel(DIGITS)) as archive:
        weights = read_state_dict(archive.read("digit_recognizer/models/handwriting_model.pth"))
    nodes, value = [], "x"
    for i in (0, 3, 6):
        nodes.append(node("Conv", [value, f"conv_layers.{i}.weight", f"conv_layers.{i}.bias"], f"c{i}", pads=[1] * 4))
        nodes.append(node("Relu", [f"c{i}"], f"r{i}"))
        nodes.append(node("MaxPool", [f"r{i}"], value := f"p{i}", kernel_shape=[2, 2], strides=[2, 2]))
    nodes += [
        node("Flatten", [value], "f"),
        node("Gemm", ["f", "fc_layers.0.weight", "fc_layers.0.bias"], "h", transB=1),
        node("Relu", ["h"], "r"),
        node("Gemm", ["r", "fc_layers.2.weight", "fc_layers.2.bias"], "y", transB=1),
    ]
    proto = model(nodes, weights, (1, 1, 28, 28))
    small, labels = digits()
    large = np.zeros((len(small), 1, 28, 28), np.float32)
    for i, picture in enumerate(small):  # 20 x 20 in the middle of 28 x 28, as MNIST has it
        large[i, 0, 4:24, 4:24] = np.asarray(image.fromarray(picture).resize((20, 20), image.Resampling.BILINEAR))
    return proto, (large - np.float32(0.1307)) / np.float32(0.3081), labels


@pytest.mark.registry
def test_mnist_network_on_digits() -> None:
    proto, large, labels = mnist()
    done = quantize(proto, None, "int8", [{"x": picture[None]} for picture in large[:100]])
    before = right(proto, large[100:], labels[100:])
    assert before > 0.7  # other writers and 8 x 8 pixels: it was trained on neither
    assert right(done.model, large[100:], labels[100:]) >= before - 0.005


def other_pictures(about: dict) -> Iterator[dict[str, np.ndarray]]:
    """CIFAR-100's 20 pictures in foolbox, enlarged, cropped, mirrored, of other brightness and with noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    with zipfile.ZipFile(fetch_wheel(FOOLBOX)) as archive:
        for name in sorted(name for name in archive.namelist() if "/cifar100_" in name):
            picture = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            for _ in range(2):
                size = int(rng.integers(224, 400))
                left, top = rng.integers(0, size - 223, 2)
                grown = picture.resize((size, size), Image.Resampling.BICUBIC)
                pixels = np.asarray(grown.crop((left, top, left + 224, top + 224)), np.float32)
                pixels = pixels * rng.uniform(0.6, 1.4) + rng.uniform(-30, 30)
                pixels = pixels + rng.normal(0, rng.uniform(0, 20), pixels.shape)
                pixels = np.clip(pixels[:, :: rng.choice([-1, 1])], 0, 255).astype(np.float32) / 255
                normal = (pixels - np.float32(about["mean"])) / np.float32(about["std"])
                yield {"input": np.ascontiguousarray(normal.transpose(2, 0, 1)[None])}


@pytest.mark.registry
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet-v2", "efficientnet-lite0"])
def test_classifiers_calibrated_on_other_pictures(name: str, tmp_path: Path) -> None:
    import json

    pytest.importorskip("PIL")
    from tests.models.real import pictures

    source = pull(name, tmp_path)
    about = json.loads(source.with_suffix(".json").read_text())["preprocess"]
    shown = pictures(224, str(source))
    images, labels = np.concatenate([x for x, _ in shown]), np.array([label for _, label in shown])
    done = quantize(source, None, "int8", other_pictures(about))
    real, got = answers(onnx.load(source), images), answers(done.model, images)
    cosine = (real * got).sum(1) / np.linalg.norm(real, axis=1) / np.linalg.norm(got, axis=1)
    assert cosine.mean() >= 0.99
    assert (got.argmax(1) == labels).sum() >= 17
    assert done.bytes_after <= 0.28 * done.bytes_before
