"""Damaged and malicious files: one clear error each, in bounded time and memory."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.gguf import read_gguf
from targets.errors import EdgertError, UnsupportedModel
from tests.gguf.files import every_type

HUGE = 1 << 60
MOST_MEMORY = 4 << 20  # bytes: far below what any of the claimed sizes would take, above the reading of a small file


def text(value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def string_key(key: str, value: bytes | str) -> bytes:
    return text(key) + struct.pack("<I", 8) + text(value)


def tensor(name: bytes | str, dims: list[int], kind: int = 0, offset: int = 0, rank: int | None = None) -> bytes:
    rank = len(dims) if rank is None else rank
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", rank, *dims, kind, offset)


def gguf(
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    keys: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    key_count: int | None = None,
    tensor_count: int | None = None,
    data: int = 256,
) -> bytes:
    """A file of a few values, each of which may be a lie."""
    keys = [string_key("general.architecture", "llama")] if keys is None else keys
    tensors = [tensor("a", [32])] if tensors is None else tensors
    counts = (len(tensors) if tensor_count is None else tensor_count, len(keys) if key_count is None else key_count)
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + b"\0" * data


def array_key(kind: int, count: int, payload: bytes = b"") -> bytes:
    return text("k") + struct.pack("<IIQ", 9, kind, count) + payload


DAMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "magic alone": (b"GGUF", "the version"),
    "wrong magic": (gguf(magic=b"GGML"), "not a GGUF file"),
    "ONNX": (b"\x08\x0b\x12\x06edgert" * 9, "not a GGUF file"),
    "version 1": (gguf(version=1), "version 1"),
    "version 2^31": (gguf(version=1 << 31), "version 2147483648"),
    "big-endian": (gguf(version=3 << 24), "big-endian"),
    "2^60 tensors": (gguf(tensor_count=HUGE), "claims 1152921504606846976 tensors"),
    "2^64 - 1 keys": (gguf(key_count=2**64 - 1), "claims 18446744073709551615 metadata keys"),
    "more tensors than there are": (gguf(tensor_count=9), "tensor"),
    "more keys than there are": (gguf(key_count=5), "key"),
    "key of 2^60 bytes": (gguf(keys=[struct.pack("<Q", HUGE) + b"x" * 40]), "a metadata key has"),
    "key that is no text": (gguf(keys=[text(b"\xff\xfe") + struct.pack("<II", 4, 1)]), "not UTF-8"),
    "value of 2^60 bytes": (gguf(keys=[text("k") + struct.pack("<IQ", 8, HUGE)]), "k needs 1152921504606846976"),
    "unknown value type": (gguf(keys=[text("k") + struct.pack("<IQ", 77, 0)]), "unknown type 77"),
    "array of 2^60 numbers": (gguf(keys=[array_key(5, HUGE)]), "k needs"),
    "array of 2^62 + 1 numbers": (gguf(keys=[array_key(5, (1 << 62) + 1)]), "k needs"),
    "array of 2^60 strings": (gguf(keys=[array_key(8, HUGE)]), "claims 1152921504606846976 strings"),
    "string of 2^60 in an array": (gguf(keys=[array_key(8, 1, struct.pack("<Q", HUGE))]), "k needs"),
    "string of 2^64 - 1 in an array": (gguf(keys=[array_key(8, 2, text("a") + b"\xff" * 8)]), "k needs"),
    "array of arrays": (gguf(keys=[array_key(9, 1, struct.pack("<IQ", 9, 1) * 9)]), "array of arrays"),
    "key twice": (gguf(keys=[string_key("k", "1"), string_key("k", "2")]), "'k' stands twice"),
    "alignment 0": (gguf(keys=[text("general.alignment") + struct.pack("<II", 4, 0)]), "general.alignment is 0"),
    "alignment 33": (gguf(keys=[text("general.alignment") + struct.pack("<II", 4, 33)]), "general.alignment is 33"),
    "alignment 2^31": (gguf(keys=[text("general.alignment") + struct.pack("<II", 4, 1 << 31)]), "general.alignment"),
    "alignment as text": (gguf(keys=[string_key("general.alignment", "32")]), "general.alignment is '32'"),
    "no dimensions": (gguf(tensors=[tensor("a", [])]), "0 dimensions"),
    "2^32 - 1 dimensions": (gguf(tensors=[tensor("a", [4], rank=2**32 - 1)]), "4294967295 dimensions"),
    "a dimension of 2^60": (gguf(tensors=[tensor("a", [HUGE])]), "'a'.*needs the bytes"),
    "2^240 weights": (gguf(tensors=[tensor("a", [HUGE] * 4)]), "'a'.*needs the bytes"),
    "sizes whose product wraps": (gguf(tensors=[tensor("a", [1 << 32, 1 << 32])]), "'a'.*needs the bytes"),
    "a dimension of 0": (gguf(tensors=[tensor("a", [32, 0])]), "empty shape"),
    "a broken block": (gguf(tensors=[tensor("a", [33], 2)]), "not whole blocks of Q4_0"),
    "tensor past the end": (gguf(tensors=[tensor("a", [32], 0, 1 << 40)]), "'a'.*needs the bytes"),
    "offset 2^64 - 32": (gguf(tensors=[tensor("a", [32], 0, 2**64 - 32)]), "'a'.*needs the bytes"),
    "crooked offset": (gguf(tensors=[tensor("a", [32], 0, 4)]), "'a' starts at 4"),
    "unknown tensor type": (gguf(tensors=[tensor("a", [32], 99)]), "type 99"),
    "types that are not read": (gguf(tensors=[tensor("a", [256], 10), tensor("b", [256], 20)]), "IQ4_NL, Q2_K"),
    "tensor twice": (gguf(tensors=[tensor("a", [8]), tensor("a", [8], 0, 32)]), "'a' stands twice"),
    "overlap": (gguf(tensors=[tensor("a", [32]), tensor("b", [8], 0, 64)]), "'a' and 'b' overlap"),
    "name of 2^60 bytes": (gguf(tensors=[struct.pack("<Q", HUGE) + b"x" * 40]), "a tensor's name has"),
    "name that is no text": (gguf(tensors=[tensor(b"\xff\xfe", [32])]), "not UTF-8"),
    "name with line ends": (gguf(tensors=[tensor("a\nb\x1b[31m", [HUGE])]), "needs the bytes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_clear_error(damage: str, tmp_path: Path) -> None:
    content, message = DAMAGES[damage]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    with pytest.raises(EdgertError, match=f"hostile.gguf: .*{message}") as caught:
        bounded(path)
    said = str(caught.value)
    assert said.isprintable() and len(said) < 4200


def test_the_undamaged_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "good.gguf"
    path.write_bytes(gguf())
    assert list(read_gguf(path).tensors) == ["a"]
    path.write_bytes(gguf(version=2))
    assert read_gguf(path).version == 2


def test_cut_before_the_length_of_a_string(tmp_path: Path) -> None:
    """The first of two is longer than both could be, and ends where the file does."""
    path = tmp_path / "cut.gguf"
    path.write_bytes(gguf(keys=[array_key(8, 2, text("a" * 40))], data=0)[: 24 + 25 + 48 + 3])
    with pytest.raises(EdgertError, match="cut or damaged: k needs 8 bytes"):
        read_gguf(path)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "none.gguf"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(EdgertError, match=r"none\.gguf: (no such file|is not a file)"):
        read_gguf(path)


def test_unknown_versions_and_types_are_unsupported_rather_than_damaged(tmp_path: Path) -> None:
    for damage in ("version 1", "big-endian", "types that are not read", "array of arrays"):
        path = tmp_path / "other.gguf"
        path.write_bytes(DAMAGES[damage][0])
        with pytest.raises(UnsupportedModel):
            read_gguf(path)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "real.gguf"
    every_type(path, rows=1)
    return path.read_bytes()


def test_cut_anywhere(real: bytes, tmp_path: Path) -> None:
    """Every prefix is refused: the last tensor ends where the file ends, but for the padding after it."""
    path = tmp_path / "cut.gguf"
    header = real.index(b"bf16") + 64
    for length in (*range(0, header, 3), *range(header, len(real) - 32, 97)):
        path.write_bytes(real[:length])
        with pytest.raises(EdgertError):
            read_gguf(path)


def _fuzz(real: bytes, path: Path, examples: int) -> None:
    damage = st.tuples(st.integers(0, real.index(b"bf16") + 40), st.integers(0, 255))

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(damages=st.lists(damage, min_size=1, max_size=6))
    def check(damages: list[tuple[int, int]]) -> None:
        content = bytearray(real)
        for at, value in damages:
            content[at] = value
        path.write_bytes(content)
        try:
            file = bounded(path)
        except EdgertError as error:
            assert str(error).isprintable()
            return
        with np.errstate(all="ignore"):  # misplaced bytes may be any number, infinite ones too
            for found in file.tensors.values():
                assert found.numpy().shape == found.shape

    check()


def test_changed_bytes_are_read_or_refused(real: bytes, tmp_path: Path) -> None:
    """Whatever a few changed bytes make of the header, the answer is tensors that can be decoded or one error."""
    _fuzz(real, tmp_path / "fuzzed.gguf", 200)


def bounded(path: Path, read: Callable = read_gguf, most: int = MOST_MEMORY):
    """Read while counting memory."""
    tracemalloc.start()
    try:
        return read(path)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most
