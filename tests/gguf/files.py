"""GGUF files of the tests' own, written with the gguf package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

BLOCKED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
PLAIN = ("F32", "F16", "BF16")
_HALFS = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
"""Where a block has its float16 numbers; elsewhere at its start."""


def random_raw(rng: np.random.Generator, kind: str, rows: int, columns: int) -> np.ndarray:
    """Every byte random but the float16 scales, which are finite: uint8 [rows, bytes]; codes take all values."""
    weights, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    raw = rng.integers(0, 256, (rows, columns // weights, size), np.uint8)
    if kind in BLOCKED:
        for at in _HALFS.get(kind, (0,)):
            scales = rng.normal(0, 0.1, (rows, columns // weights, 1)).astype("<f2")
            raw[..., at : at + 2] = scales.view(np.uint8)
    else:
        values = rng.normal(0, 1, (rows, columns)).astype(np.float32)
        raw = gguf.quants.quantize(values, Type[kind]).view(np.uint8)
    return raw.reshape(rows, -1)


def add(writer: gguf.GGUFWriter, name: str, kind: str, raw: np.ndarray) -> None:
    """A tensor of stored bytes [rows, bytes]."""
    if kind in ("F32", "F16"):
        writer.add_tensor(name, raw.view("<f4" if kind == "F32" else "<f2"))
    else:
        writer.add_tensor(name, raw, raw_dtype=Type[kind])


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def put(writer: gguf.GGUFWriter, metadata: Mapping[str, Any]) -> None:
    """Metadata by Python's types: bool, int (as uint32), float (as float32), str, lists."""
    for key, value in metadata.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)


def every_type(path: Path, rows: int = 5, columns: int = 512) -> dict[str, np.ndarray]:
    """A file with one matrix of each type; returns what gguf decodes them to."""
    rng, writer = np.random.default_rng(7), gguf.GGUFWriter(path, "test")
    put(writer, {"test.flag": True, "test.text": "naïve", "test.list": ["a", "", "ß"], "test.numbers": [1, 2, 3]})
    expected = {}
    for kind in (*BLOCKED, *PLAIN):
        raw = random_raw(rng, kind, rows, columns)
        add(writer, kind.lower(), kind, raw)
        stored = raw.view("<f4" if kind == "F32" else "<f2") if kind in ("F32", "F16") else raw
        expected[kind] = gguf.quants.dequantize(stored, Type[kind])
    finish(writer)
    return expected
