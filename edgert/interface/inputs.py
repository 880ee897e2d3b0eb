"""Turn `--input name=source` into arrays: .npy, .png, .wav and .txt files, plain numbers, zeros."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgert.errors import UsageError
from edgert.interface.image import fit_image
from edgert.interface.png import read_png
from edgert.interface.wav import read_wav

# Takes the file's bytes, and the shape, dtype and manifest entry of the input.
Reader = Callable[[bytes, Sequence[int], np.dtype, Mapping[str, Any]], np.ndarray]


def gather(sources: Sequence[tuple[str, str]], manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One array per input of the model that `manifest` describes, from (name, source) pairs.

    A source is a file (by its ending), `zeros`, or a number that fills the input. Raises UsageError for unknown
    names, names given twice, inputs that are missing, and files that cannot be read or do not fit.
    """
    entries = {entry["name"]: entry for entry in manifest["inputs"]}
    arrays: dict[str, np.ndarray] = {}
    for name, source in sources:
        if name not in entries:
            raise UsageError(f"the model has no input {name!r}; it has {', '.join(entries)}")
        if name in arrays:
            raise UsageError(f"input {name!r} is given twice")
        arrays[name] = read_source(source, entries[name])
    missing = [f"{name} ({describe(entry)})" for name, entry in entries.items() if name not in arrays]
    if missing:
        raise UsageError(f"no --input for {', '.join(missing)}")
    return arrays


def describe(entry: Mapping[str, Any]) -> str:
    """Type and shape of a manifest's input or output, as in float32[1,3,224,224] or int64[1,1..512]."""
    parts = [f"..{dim['max']}" if isinstance(dim, dict) else str(dim) for dim in entry["shape"]]
    return f"{entry['dtype']}[{','.join(parts)}]"


def read_source(source: str, entry: Mapping[str, Any]) -> np.ndarray:
    """The array for the manifest's input `entry` from a file name, `zeros` or a number."""
    shape = [dim["max"] if isinstance(dim, dict) else dim for dim in entry["shape"]]
    dtype = np.dtype(entry["dtype"])
    if source == "zeros":
        return np.zeros(shape, dtype)
    path = Path(source)
    if not path.exists():
        try:
            return np.full(shape, float(source) if dtype.kind == "f" else int(source), dtype)
        except (ValueError, OverflowError):
            raise UsageError(f"input {entry['name']!r}: no file {source!r}") from None
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{source}: cannot tell what it is; endings known are {', '.join(READERS)}")
    try:
        return reader(path.read_bytes(), shape, dtype, entry)
    except ValueError as error:
        raise UsageError(f"{source}: {error} (input {entry['name']!r} is {describe(entry)})") from None


def _npy(data: bytes, shape: Sequence[int], dtype: np.dtype, entry: Mapping[str, Any]) -> np.ndarray:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (EOFError, OSError) as error:
        raise ValueError(f"not a whole .npy file ({error})") from None


def _png(data: bytes, shape: Sequence[int], dtype: np.dtype, entry: Mapping[str, Any]) -> np.ndarray:
    return fit_image(read_png(data), shape, dtype, entry.get("normalize"))


def _wav(data: bytes, shape: Sequence[int], dtype: np.dtype, entry: Mapping[str, Any]) -> np.ndarray:
    """The first samples that fit the last dimension, zeros after them where the file is shorter."""
    return _pad(read_wav(data)[0], shape, dtype)


def _txt(data: bytes, shape: Sequence[int], dtype: np.dtype, entry: Mapping[str, Any]) -> np.ndarray:
    """UTF-8 bytes as numbers, zeros after them. Models with a tokenizer of their own want token ids in a .npy."""
    return _pad(np.frombuffer(data, np.uint8), shape, dtype)


def _pad(values: np.ndarray, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    if not shape or int(np.prod(shape)) != shape[-1]:
        raise ValueError("fits only inputs with one dimension other than 1, the last")
    out = np.zeros(shape[-1], dtype)
    out[: len(values)] = values[: shape[-1]]
    return out.reshape(shape)


READERS: dict[str, Reader] = {".npy": _npy, ".png": _png, ".wav": _wav, ".txt": _txt}
