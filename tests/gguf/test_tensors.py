"""Weights beside the gguf package's own decoding of the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.gguf import TYPES, Blocks, read_gguf
from tests.gguf.files import BLOCKED, PLAIN, every_type


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("gguf") / "types.gguf"
    expected = every_type(path)
    return read_gguf(path), expected


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype == np.float32 and np.array_equal(a.view(np.uint32), b.view(np.uint32))


def test_every_type_is_tested() -> None:
    assert {t.name for t in TYPES.values()} == {*BLOCKED, *PLAIN}


def test_metadata(file) -> None:
    metadata = file[0].metadata
    assert metadata["test.flag"] is True and metadata["test.text"] == "naïve"
    assert metadata["test.list"] == ["a", "", "ß"] and metadata["test.numbers"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", [*BLOCKED, *PLAIN])
def test_values_are_ggufs_to_the_bit(file, kind: str) -> None:
    tensor, expected = file[0].tensors[kind.lower()], file[1][kind]
    assert tensor.shape == expected.shape and tensor.type.name == kind
    assert same_bits(tensor.numpy(), expected)
    assert same_bits(tensor.numpy(slice(1, 3)), expected[1:3])
    assert same_bits(tensor.take(2, 5).numpy(), expected[2:5])


@pytest.mark.parametrize("kind", BLOCKED)
def test_blocks_give_the_same_values(file, kind: str) -> None:
    tensor, expected = file[0].tensors[kind.lower()], file[1][kind]
    blocks = tensor.blocks()
    assert blocks is not None and tensor.quantized
    assert same_bits(formula(blocks), expected)
    part = tensor.blocks(slice(3, 5))
    assert part is not None and same_bits(formula(part), expected[3:5])


def formula(b: Blocks) -> np.ndarray:
    """The class's own sentence, one float32 operation after the other."""
    rows, width = b.codes.shape
    assert b.codes.dtype == np.uint8 and int(b.codes.max()) == 2**b.bits - 1 and int(b.codes.min()) == 0
    assert b.scale.dtype == np.float32 and b.scale.shape == (rows, width // b.size)
    scale = np.repeat(b.scale, b.size, axis=1)
    if b.minimum is None:
        return scale * (b.codes.astype(np.float32) - np.float32(b.zero))
    assert b.zero == 0
    return scale * b.codes.astype(np.float32) + np.repeat(b.minimum, b.size, axis=1)


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_super_blocks_multiply_to_the_scales(file, kind: str) -> None:
    b = file[0].tensors[kind.lower()].blocks()
    per = 256 // b.size
    assert np.array_equal(np.repeat(b.super_scale.astype(np.float32), per, axis=1) * b.sub_scale, b.scale)
    if b.minimum is not None:
        assert np.array_equal(-(np.repeat(b.super_min.astype(np.float32), per, axis=1) * b.sub_min), b.minimum)


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_floats_have_no_blocks(file, kind: str) -> None:
    assert file[0].tensors[kind.lower()].blocks() is None


def test_stays_on_disk(file) -> None:
    assert all(isinstance(_root(t.raw), np.memmap) for t in file[0].tensors.values())


def _root(array: np.ndarray) -> object:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
