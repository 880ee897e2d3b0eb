"""Both of torch's formats, and files whose sizes and strides lie."""

import contextlib
import zipfile

import numpy as np
import pytest

from compiler.zoo.state_dict import read_state_dict
from compiler.zoo.unpickle import UnsafePickle
from tests.zoo.torch_files import Storage, Tensor, legacy, plain, zipped

FORMATS = pytest.mark.parametrize("write", [legacy, zipped])


def sample() -> tuple[dict, dict[str, np.ndarray]]:
    """A state_dict to write and the arrays to read back."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((4, 3, 2), np.float32)
    half = rng.standard_normal(5).astype(np.float16)
    shared = np.arange(12, dtype=np.float32)
    value = {
        "weight": plain(weight, "10"),
        "steps": plain(np.array(41, np.int64), "11", "LongStorage"),
        "half": plain(half, "12", "HalfStorage"),
        "transposed": Tensor(Storage(shared, "13"), 0, (4, 3), (1, 4)),
        "tail": Tensor(Storage(shared, "13"), 6, (2, 3), (3, 1)),
        "empty": Tensor(Storage(shared, "13"), 0, (0, 3), (3, 1)),
    }
    arrays = {
        "weight": weight, "steps": np.array(41, np.int64), "half": half, "transposed": shared.reshape(3, 4).T,
        "tail": shared[6:].reshape(2, 3), "empty": np.zeros((0, 3), np.float32),
    }  # fmt: skip
    return value, arrays


@FORMATS
def test_reads_back(write) -> None:
    value, arrays = sample()
    found = read_state_dict(write(value))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array)


@FORMATS
@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (13,), (1,)),
        (1, (12,), (1,)),
        (0, (3, 4), (5, 1)),
        (0, (2,), (12,)),
        (2**47, (1,), (1,)),
        (0, (2**40,), (0,)),
        (0, (2**30, 2**30), (0, 0)),
        (0, (3, 4), (-4, 1)),
        (-1, (3,), (1,)),
        (0, (-3, -4), (4, 1)),
        (0, (3, 4), (1,)),
        (0, (2**60,), (1,)),
        (0, (3.0,), (1,)),
        (0, (True,), (1,)),
        (0, [3], [1]),
        (0, (1,) * 40, (1,) * 40),
    ],
)
def test_tensors_outside_their_storage(write, offset, shape, strides) -> None:
    storage = Storage(np.arange(12, dtype=np.float32), "5")
    with pytest.raises(UnsafePickle, match="tensor"):
        read_state_dict(write({"weight": Tensor(storage, offset, shape, strides)}))


@FORMATS
@pytest.mark.parametrize("numel", [13, 2**31, 2**47, 2**50, -1])
def test_storages_larger_than_the_file(write, numel: int) -> None:
    storage = Storage(np.arange(12, dtype=np.float32), "5", numel=numel)
    with pytest.raises(UnsafePickle, match="storage"):
        read_state_dict(write({"weight": Tensor(storage, 0, (3, 4), (4, 1))}))


@FORMATS
def test_cut_anywhere(write) -> None:
    data = write(sample()[0])
    for size in range(0, len(data), max(1, len(data) // 150)):
        with pytest.raises(UnsafePickle):
            read_state_dict(data[:size])


@FORMATS
@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, {"a": {"b": 2}}, {1: 2}, None])
def test_not_a_state_dict(write, value) -> None:
    with pytest.raises(UnsafePickle):
        read_state_dict(write(value))


def test_compressed_members_are_refused() -> None:
    value = {"weight": plain(np.zeros(1_000_000, np.float32), "0")}
    with pytest.raises(UnsafePickle, match="compressed"):
        read_state_dict(zipped(value, zipfile.ZIP_DEFLATED))


def test_a_flipped_byte_never_escapes() -> None:
    rng = np.random.default_rng(3)
    for write in (legacy, zipped):
        data = write(sample()[0])
        for at in rng.integers(0, len(data), 400):
            damaged = bytearray(data)
            damaged[at] ^= 1 << int(rng.integers(8))
            with contextlib.suppress(UnsafePickle):
                read_state_dict(bytes(damaged))
