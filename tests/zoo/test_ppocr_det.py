"""The text detector as pulled: it marks dark letters on a light page and leaves the empty page alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

LETTERS = {
    "H": ("#...#", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "E": ("#####", "#....", "#....", "####.", "#....", "#....", "#####"),
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "O": (".###.", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."),
}


def page(text: str) -> np.ndarray:
    """uint8 [96, 224, 3], white, with `text` in the middle in letters 28 pixels high."""
    image = np.full((96, 224, 3), 255, np.uint8)
    for index, letter in enumerate(text):
        dots = np.array([[dot == "#" for dot in row] for row in LETTERS[letter]])
        top, left = 34, 40 + 28 * index
        image[top : top + 28, left : left + 20][np.kron(dots, np.ones((4, 4))) > 0] = 0
    return image


@pytest.mark.registry
def test_finds_text(pulled: Callable[[str], Path]) -> None:
    path = pulled("ppocr-det")
    facts, session = json.loads(path.with_suffix(".json").read_text())["preprocess"], onnxruntime.InferenceSession(path)

    def detect(image: np.ndarray) -> np.ndarray:
        x = (image * facts["scale"] - facts["mean"]) / facts["std"]
        return session.run(None, {"x": x.transpose(2, 0, 1)[None].astype(np.float32)})[0][0, 0]

    written, empty = detect(page("HELLO")), detect(page(""))
    assert written.shape == (96, 224)
    assert (empty > 0.3).sum() == 0
    rows, columns = np.nonzero(written > 0.3)
    assert len(rows) > 500 and 20 < rows.mean() < 76 and 80 < columns.mean() < 140
