"""The safetensors reader: what the format allows, and headers that lie."""

import json

import numpy as np
import pytest

from compiler.zoo.safetensors import read_safetensors
from edgert.errors import EdgertError


def write(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def test_reads_each_dtype() -> None:
    arrays = {
        "F32": np.arange(6, dtype=np.float32).reshape(2, 3), "F64": np.array(1.5), "F16": np.ones(3, np.float16),
        "I64": np.array([[-1]]), "I32": np.arange(2, dtype=np.int32), "I16": np.zeros(0, np.int16),
        "I8": np.array([-7], np.int8), "U8": np.array([200], np.uint8), "BOOL": np.array([True, False]),
    }  # fmt: skip
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        end = len(body) + array.nbytes
        header[name] = {"dtype": name, "shape": list(array.shape), "data_offsets": [len(body), end]}
        body += array.tobytes()
    found = read_safetensors(write(header, body))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F99"},
        {"dtype": ["F32"]},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": "22"},
        {"shape": [2.0]},
        {"shape": [2**40, 2**40]},
        {"shape": None},
        {"data_offsets": [0, 16]},
        {"data_offsets": [4, 0]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [0]},
        {"data_offsets": [0, 2**70]},
        {"data_offsets": [True, 8]},
        {"data_offsets": {}},
    ],
)
def test_a_tensor_that_lies(change: dict) -> None:
    with pytest.raises(EdgertError, match="tensor 'w'"):
        read_safetensors(write({"w": {**GOOD, **change}}, bytes(8)))


@pytest.mark.parametrize(
    "data",
    [b"", b"\1\0", b"\xff" * 8, b"\xff" * 64, write(b"{"), write(b"[]"), write(b"[" * 100_000), write(b"\xff\xfe"),
     write({"w": 3}), write({"w": GOOD}, bytes(7))],
)  # fmt: skip
def test_a_damaged_file(data: bytes) -> None:
    with pytest.raises(EdgertError, match="safetensors"):
        read_safetensors(data)
