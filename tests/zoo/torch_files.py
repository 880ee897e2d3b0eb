"""Writes what torch.save writes, without torch: state_dicts in both formats, sound or damaged on purpose."""

import collections
import io
import pickle
import sys
import types
import zipfile
from contextlib import contextmanager
from unittest import mock

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Storage:
    """Stands for a torch storage in a pickle; becomes a persistent id."""

    def __init__(self, array: np.ndarray, key: str, kind: str = "FloatStorage", numel: int | None = None) -> None:
        self.array, self.key, self.kind = array, key, kind
        self.numel = array.size if numel is None else numel


class Tensor:
    """A view of a storage; shape and strides in elements."""

    def __init__(self, storage: Storage, offset: int, shape: tuple, strides: tuple) -> None:
        self.args = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self) -> tuple:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.args


def plain(array: np.ndarray, key: str, kind: str = "FloatStorage") -> Tensor:
    """A contiguous tensor that fills its storage."""
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return Tensor(Storage(array, key, kind), 0, array.shape, strides)


@contextmanager
def _fake_torch():
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in ("FloatStorage", "LongStorage", "HalfStorage"):
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        yield torch


def _pickle(value: object, legacy: bool) -> tuple[bytes, dict[str, Storage]]:
    storages: dict[str, Storage] = {}
    with _fake_torch() as torch:

        class Pickler(pickle.Pickler):
            def persistent_id(self, item: object) -> tuple | None:
                if not isinstance(item, Storage):
                    return None
                storages[item.key] = item
                pid = ("storage", getattr(torch, item.kind), item.key, "cpu", item.numel)
                return (*pid, None) if legacy else pid

        out = io.BytesIO()
        Pickler(out, protocol=2).dump(value)
    return out.getvalue(), storages


def legacy(value: object) -> bytes:
    """The format before torch 1.6: pickles in a row, then counts and raw storages."""
    body, storages = _pickle(value, legacy=True)
    out = [pickle.dumps(part, protocol=2) for part in (MAGIC, PROTOCOL, SYSTEM)]
    out += [body, pickle.dumps(sorted(storages), protocol=2)]
    for key in sorted(storages):
        out += [storages[key].array.size.to_bytes(8, "little"), storages[key].array.tobytes()]
    return b"".join(out)


def zipped(value: object, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The format since torch 1.6."""
    body, storages = _pickle(value, legacy=False)
    return zip_of(body, {key: storage.array.tobytes() for key, storage in storages.items()}, compression)


def zip_of(body: bytes, storages: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A ZIP file around any pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("archive/data.pkl", body)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return out.getvalue()
