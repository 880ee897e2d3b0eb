"""Read a PyTorch state_dict (.pth) into numpy arrays, without torch and without trusting the file.

Two formats exist. The legacy one is five pickles in a row (magic number, protocol, system, the object, the list of
storage keys) followed by each storage as a count and raw bytes. The newer one is a ZIP of stored members: `data.pkl`
and `data/KEY`. Both as written by torch.save (torch/serialization.py); the pickles go through `unpickle.load`.
"""

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from compiler.zoo import unpickle
from compiler.zoo.unpickle import StorageRef, TensorRef, UnsafePickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_state_dict(source: bytes | Path) -> dict[str, np.ndarray]:
    """Arrays by name from a .pth file or its bytes, in the file's order, shapes and dtypes as stored.

    Raises UnsafePickle (an EdgertError) for a file that is damaged, that holds anything but named tensors, or whose
    tensors reach outside their storage.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    refs, storages = _read_zip(data) if data[:4] == b"PK\x03\x04" else _read_legacy(data)
    if type(refs) is not dict or not all(type(k) is str and isinstance(v, TensorRef) for k, v in refs.items()):
        raise UnsafePickle("weights file: expected a state_dict, that is, tensors by name")
    return {name: _view(name, ref, storages) for name, ref in refs.items()}


def _read_legacy(data: bytes) -> tuple[object, dict[str, memoryview]]:
    file = io.BytesIO(data)
    if unpickle.load(file) != _LEGACY_MAGIC or unpickle.load(file) != 1001:
        raise UnsafePickle("weights file: not written by torch.save")
    system = unpickle.load(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnsafePickle("weights file: written on a big-endian machine")
    refs, keys = unpickle.load(file), unpickle.load(file)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise UnsafePickle("weights file: damaged list of storages")
    numel_by_key = {ref.storage.key: ref.storage for ref in _tensors(refs)}
    view, at, storages = memoryview(data), file.tell(), {}
    for key in keys:
        if key not in numel_by_key:
            raise UnsafePickle(f"weights file: storage {key} belongs to no tensor")
        count, nbytes = int.from_bytes(view[at : at + 8], "little"), _nbytes(numel_by_key[key])
        if count != numel_by_key[key].numel or at + 8 + nbytes > len(data):
            raise UnsafePickle(f"weights file: storage {key} is cut short or has the wrong size")
        storages[key] = view[at + 8 : at + 8 + nbytes]
        at += 8 + nbytes
    return refs, storages


def _read_zip(data: bytes) -> tuple[object, dict[str, memoryview]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Stored members only: they cannot be larger than the file, so nothing can blow up on reading.
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise UnsafePickle("weights file: compressed members, which torch.save never writes")
            roots = [name[: -len("data.pkl")] for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise UnsafePickle("weights file: a ZIP without a data.pkl, so not written by torch.save")
            root = roots[0]
            if root + "byteorder" in archive.namelist() and archive.read(root + "byteorder") != b"little":
                raise UnsafePickle("weights file: written on a big-endian machine")
            refs = unpickle.load(io.BytesIO(archive.read(root + "data.pkl")))
            storages = {}
            for key in dict.fromkeys(ref.storage.key for ref in _tensors(refs)):
                if f"{root}data/{key}" not in archive.namelist():
                    raise UnsafePickle(f"weights file: storage {key} is missing")
                storages[key] = memoryview(archive.read(f"{root}data/{key}"))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnsafePickle(f"weights file: damaged ZIP ({error})") from None
    return refs, storages


def _tensors(refs: object) -> list[TensorRef]:
    return [ref for ref in refs.values() if isinstance(ref, TensorRef)] if isinstance(refs, dict) else []


def _nbytes(storage: StorageRef) -> int:
    return storage.numel * np.dtype(storage.dtype).itemsize


def _view(name: str, ref: TensorRef, storages: dict[str, memoryview]) -> np.ndarray:
    """The tensor as a contiguous array of its own, once its furthest element is known to lie in its storage."""
    raw, dtype = storages.get(ref.storage.key), np.dtype(ref.storage.dtype)
    if raw is None or len(raw) < _nbytes(ref.storage):
        raise UnsafePickle(f"weights file: the storage of tensor {name!r} is missing or cut short")
    numel = math.prod(ref.shape)
    # Python integers do not wrap. A stride of 0 could make a small storage look huge, hence numel too.
    furthest = ref.offset + sum((size - 1) * stride for size, stride in zip(ref.shape, ref.strides, strict=True))
    if numel > ref.storage.numel or (numel and furthest >= ref.storage.numel):
        raise UnsafePickle(f"weights file: tensor {name!r} reaches outside its storage")
    if not numel:
        return np.zeros(ref.shape, dtype)
    flat = np.frombuffer(raw, dtype, ref.storage.numel)[ref.offset :]
    strides = tuple(stride * dtype.itemsize for stride in ref.strides)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, ref.shape, strides)).reshape(ref.shape)
