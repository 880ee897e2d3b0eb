"""Features and answers against the package's own code, taken out of the same wheel."""

import random
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from compiler.zoo import magika_features
from compiler.zoo.fetch import fetch_wheel
from compiler.zoo.magika_features import MagikaConfig, decide, features, read_ends, small_label
from compiler.zoo.registry import find

pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory):
    """The package itself, unpacked and imported for this module only."""
    folder = tmp_path_factory.mktemp("package")
    with zipfile.ZipFile(fetch_wheel(find("magika").wheel)) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith("magika/")])
    sys.path.insert(0, str(folder))
    try:
        import magika

        yield magika.Magika()
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == "magika"]:
            del sys.modules[name]


def contents() -> list[bytes]:
    """Text, code, bytes, and the sizes around every boundary of the extraction."""
    rng = random.Random(2)
    sizes = [0, 1, 7, 8, 9, 100, 1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096, 4097, 9000]
    made = [rng.randbytes(size) for size in sizes]
    made += [
        b" \t\n" * (size // 3) + b"abcdefgh"[:tail] + b"\r\n\x0b\x0c " * 40 for size in sizes for tail in (0, 7, 8)
    ]
    made += [Path(module.__file__).read_bytes() for module in (random, zipfile, pytest, magika_features)]
    made += [b'{"a": [1, 2, 3], "b": null}\n', b"\x89PNG\r\n\x1a\n" + bytes(300), b"<html><body>hello</body></html>"]
    return [*made, b"hello world, a plain line of text\n", b"\xff\xfe\xfd", "naïve é".encode()[:6]]


def test_same_as_the_package(pulled: Callable[[str], Path], package, tmp_path: Path) -> None:
    path = pulled("magika")
    config, session = MagikaConfig.read(path.with_suffix(".json")), onnxruntime.InferenceSession(path)
    asked = 0
    for content in contents():
        (tmp_path / "content").write_bytes(content)
        first, last = read_ends(tmp_path / "content", config)
        row, expected = features(first, last, config), package.identify_bytes(content)
        if row is None:
            assert str(expected.dl.label) == "undefined" and str(expected.output.label) == small_label(first)
            continue
        asked += 1
        assert row.shape == (1, 2048) and row.dtype == np.int32
        answer = decide(session.run(None, {"bytes": row})[0][0], config)
        assert (answer.label, answer.model_label) == (str(expected.output.label), str(expected.dl.label))
        # The same model on the same features; the package may batch otherwise, so float32 roundings.
        assert answer.score == pytest.approx(expected.score, abs=1e-6)
    assert asked > 20
