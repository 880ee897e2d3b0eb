"""Hostile pickles: none may run anything, all must end in one clear error."""

import builtins
import contextlib
import io
import os
import pickle
import random
import struct
import tracemalloc

import pytest

from compiler.zoo import unpickle
from compiler.zoo.state_dict import read_state_dict
from compiler.zoo.unpickle import UnsafePickle
from tests.zoo.torch_files import zip_of


class Call:
    """Pickles to a call of `function` with `args`."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple:
        return self.call


def mark() -> str:
    """A shell command whose trace would betray that it ran."""
    return "touch hostile-pickle-ran"


CALLS = {
    "os.system": lambda: Call(os.system, mark()),
    "eval": lambda: Call(builtins.eval, "__import__('os').system('touch hostile-pickle-ran')"),
    "exec": lambda: Call(builtins.exec, "open('hostile-pickle-ran', 'w')"),
    "open": lambda: Call(open, "hostile-pickle-ran", "w"),
    "getattr": lambda: Call(getattr, "x", "upper"),
    "inside a dict": lambda: {"weight": Call(os.system, mark())},
    "inside a call": lambda: {"weight": Call(dict, [("a", Call(os.system, mark()))])},
    "bytearray of 2**40": lambda: Call(bytearray, 2**40),
    "builtin class": lambda: {"weight": complex},
}
RAW = {
    "eval through numpy's name": b"cnumpy.f2py.crackfortran\nmyeval\n(Vprint(1)\ntR.",
    "dotted name": b"ccollections\nOrderedDict.fromkeys\n(](KeR.",
    "dotted through torch": b"\x80\x04\x8c\x05torch\x8c\x15FloatStorage.__class__\x93.",
    "INST": b"(S'touch hostile-pickle-ran'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nVtouch hostile-pickle-ran\no.",
    "NEWOBJ": b"\x80\x02cos\nsystem\n)\x81.",
    "BUILD on a builder": b"ctorch._utils\n_rebuild_tensor_v2\n}(X\x01\x00\x00\x00aK\x01ub.",
    "REDUCE of a value": b"K\x01)R.",
    "REDUCE of a storage type": b"ctorch\nFloatStorage\n)R.",
    "REDUCE without a tuple": b"ccollections\nOrderedDict\n]R.",
    "persistent id of a stranger": b"\x80\x02X\x03\x00\x00\x00abcQ.",
    "extension code": b"\x80\x02\x82\x01.",
    "huge memo index": b"\x80\x02K\x01r\xff\xff\xff\xff.",
    "huge string": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"abc.",
    "huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N",
    "unhashable key": b"\x80\x02}]K\x01s.",
    "nested tuples as a key": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
    "unknown memo": b"\x80\x02h\x07.",
    "empty stack": b"\x80\x02.",
    "mark as a value": b"\x80\x02(.",
    "tuple past the bottom": b"\x80\x02K\x01\x87.",
    "tuple over a mark": b"\x80\x02K\x01(K\x02\x87.",
    "no end": b"\x80\x02K\x01",
    "nothing": b"",
    "pop": b"\x80\x02K\x01K\x020.",
}


def hostile() -> dict[str, bytes]:
    """Every hostile pickle, by name; calls in several protocols."""
    made = {f"{name}, protocol {p}": pickle.dumps(make(), p) for name, make in CALLS.items() for p in (0, 2, 4)}
    return {**made, **RAW}


@pytest.mark.parametrize("name", hostile())
def test_refused_and_nothing_runs(name: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = hostile()[name]
    if name == "huge memo index":  # harmless here, where the memo is a dict: the value itself is plain
        assert unpickle.load(io.BytesIO(data)) == 1
    else:
        with pytest.raises(UnsafePickle) as caught:
            unpickle.load(io.BytesIO(data))
        assert str(caught.value).startswith("weights file: ") and "\n" not in str(caught.value)
    for source in (data, zip_of(data, {})):
        with pytest.raises(UnsafePickle):
            read_state_dict(source)
    assert not list(tmp_path.iterdir())


def test_sizes_stated_in_the_file_allocate_nothing() -> None:
    """A few bytes may not make the reader take megabytes (the standard unpickler's memo takes gigabytes here)."""
    cases = [data for data in hostile().values() if len(data) < 1000]
    tracemalloc.start()
    try:
        for data in cases:
            with pytest.raises(UnsafePickle):
                read_state_dict(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_plain_values_survive() -> None:
    value = {"a": [1, 2.5, None, True], "b": {"c": (1, (2, 3), "x" * 300, 2**70, -5)}, "d": ()}
    for protocol in (2, 3, 4, 5):
        assert unpickle.load(io.BytesIO(pickle.dumps(value, protocol))) == value


def test_random_bytes_give_only_the_clear_error() -> None:
    rng = random.Random(7)
    base = pickle.dumps({"a": [1, 2.5], "b": ("x", None)}, 2)
    for _ in range(3000):
        data = bytearray(base)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(UnsafePickle):
            unpickle.load(io.BytesIO(bytes(data)))
