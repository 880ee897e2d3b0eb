"""Calibration samples: every kind of source gives the same, every fault is told."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from quant.data import open_samples
from targets.errors import UsageError

ROWS = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)


def takes(**shapes: tuple[int | str, ...]) -> onnx.ModelProto:
    """A model of float32 inputs (what it computes does not matter here)."""
    make = onnx.helper.make_tensor_value_info
    inputs = [make(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    nodes = [onnx.helper.make_node("Identity", [next(iter(shapes))], ["y"])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, [make("y", onnx.TensorProto.FLOAT, None)])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])


ONE = takes(x=(1, 3, 4))


def walked(model: onnx.ModelProto, source: object, **more: object) -> list[dict[str, np.ndarray]]:
    samples = open_samples(model, source, **more)  # type: ignore[arg-type]
    first, second = list(samples), list(samples)
    for a, b in zip(first, second, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a | b)
    return first


def test_every_source_gives_the_same(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", x=ROWS)
    np.savez_compressed(tmp_path / "small.npz", anything=ROWS)
    np.savez(tmp_path / "whole.npz", x=ROWS[:, None])
    (tmp_path / "arrays").mkdir()
    (tmp_path / "mixed").mkdir()
    for i, row in enumerate(ROWS):
        np.save(tmp_path / "arrays" / f"{i}.npy", row)
        np.savez(tmp_path / "mixed" / f"{i}.npz", x=row[None])
    (tmp_path / "arrays" / ".hidden").write_text("not a sample")
    dicts = [{"x": row[None]} for row in ROWS]
    sources = [tmp_path / name for name in ("plain.npz", "small.npz", "whole.npz", "arrays", "mixed")]
    for source in (*sources, dicts, iter(dicts), (sample for sample in dicts)):
        got = walked(ONE, source)
        assert [sample["x"].tolist() for sample in got] == [row[None].tolist() for row in ROWS], source
        assert all(sample["x"].dtype == np.float32 for sample in got)


def test_limit_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("2")
    (tmp_path / "b.txt").write_text("3")
    seen = []

    def read(path: Path, name: str, shape: tuple) -> np.ndarray:
        seen.append((path.name, name, shape))
        return np.full(shape, float(path.read_text()), np.float32)

    got = walked(ONE, tmp_path, read=read, limit=1)
    assert [sample["x"].max() for sample in got] == [2]
    assert seen == [("a.txt", "x", (1, 3, 4))] * 2


def test_fixed_batch_takes_so_many_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=ROWS)
    got = walked(takes(x=(2, 3, 4)), tmp_path / "s.npz")
    assert [sample["x"].tolist() for sample in got] == [ROWS[:2].tolist(), ROWS[2:4].tolist()]


def test_several_inputs(tmp_path: Path) -> None:
    model = takes(x=("n", 3, 4), state=(2, 1))
    states = np.arange(10, dtype=np.float32).reshape(5, 2, 1)
    np.savez(tmp_path / "s.npz", x=ROWS[:, None], state=states)
    got = walked(model, tmp_path / "s.npz")
    assert [s["state"].tolist() for s in got] == states.tolist()
    np.savez(tmp_path / "s.npz", x=ROWS[:4, None], state=states)
    with pytest.raises(UsageError, match="differ in their number of samples"):
        walked(model, tmp_path / "s.npz")


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


WITH_NAN = np.where(np.arange(60).reshape(5, 3, 4) == 30, np.nan, ROWS)
BAD_FILES = {
    "not a zip": (b"plain text", "not an .npz file"),
    "empty set": (npz(x=ROWS[:0]), "empty"),
    "no array": (npz(), "no array 'x'"),
    "other name": (npz(a=ROWS, b=ROWS), "no array 'x'; it has a, b"),
    "wrong shape": (npz(x=ROWS[:, :2]), "sample 0: input 'x' wants shape 1x3x4, the sample has 1x2x4"),
    "NaN": (npz(x=WITH_NAN), "sample 2: input 'x' has NaN"),
    "bytes": (npz(x=ROWS.astype(np.uint8)), "wants float32, the sample has uint8"),
    "text": (npz(x=np.full((5, 3, 4), "a")), "wants float32, the sample has <U1"),
    "objects": (npz(x=np.full((5, 3, 4), None)), "Python objects"),
    "number": (npz(x=np.float32(1)), "single number"),
    "by columns": (npz(x=np.asfortranarray(ROWS)), "by columns"),
    "cut": (npz(x=ROWS)[:-200], "not an .npz file"),
}


@pytest.mark.parametrize(("data", "told"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_npz(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "s.npz").write_bytes(data)
    with pytest.raises(UsageError, match=told):
        list(open_samples(ONE, tmp_path / "s.npz"))


def test_damaged_inside(tmp_path: Path) -> None:
    data = bytearray(npz(x=ROWS))
    data[data.index(ROWS[4].tobytes()) + 3] ^= 0xFF
    (tmp_path / "s.npz").write_bytes(data)
    with pytest.raises(UsageError, match="not a whole array"):  # found at once: the file is one read long
        list(open_samples(ONE, tmp_path / "s.npz"))
    rows = np.zeros((50, 300, 4), np.float32)
    data = bytearray(npz(x=rows))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "s.npz").write_bytes(data)
    with pytest.raises(UsageError, match="damaged at row 49"):  # the check sum comes last
        list(open_samples(takes(x=(1, 300, 4)), tmp_path / "s.npz"))


def test_bad_folders_and_iterables(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="empty"):
        list(open_samples(ONE, tmp_path))
    with pytest.raises(UsageError, match="no such file"):
        open_samples(ONE, tmp_path / "absent")
    with pytest.raises(UsageError, match="empty"):
        list(open_samples(ONE, []))
    with pytest.raises(UsageError, match="sample 1: the model has no input 'z'; it has x"):
        list(open_samples(ONE, [{"x": ROWS[:1]}, {"z": ROWS[:1]}]))
    with pytest.raises(UsageError, match="no array for the input 'x'"):
        list(open_samples(ONE, [{}]))
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(UsageError, match=r"a\.npy: cannot be read"):
        list(open_samples(ONE, tmp_path))
    with pytest.raises(UsageError, match="several inputs"):
        list(open_samples(takes(x=(1, 3, 4), z=(1,)), tmp_path))
    (tmp_path / "a.npy").rename(tmp_path / "a.pdf")
    with pytest.raises(UsageError, match=r"a\.pdf: is neither"):
        list(open_samples(ONE, tmp_path))


def test_large_file_is_streamed(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "big.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as file,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (200, 64, 1024)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(200):
            file.write(bytes(64 * 1024 * 4))
    tracemalloc.start()
    assert sum(1 for _ in open_samples(takes(x=(1, 64, 1024)), tmp_path / "big.npz")) == 200  # 50 MB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20  # a few rows of 256 KB
