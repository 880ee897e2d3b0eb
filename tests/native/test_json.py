"""The C reader of JSON against Python's: the same values, and no text that Python refuses."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.native.build import NATIVE, zig_cc


class Node(ctypes.Structure):
    """struct json of json.h."""


Node._fields_ = [
    ("key", ctypes.c_char_p), ("next", ctypes.POINTER(Node)), ("value", ctypes.c_int64), ("count", ctypes.c_uint32),
    ("kind", ctypes.c_int),
]  # fmt: skip

texts = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]))
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(leaves | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    path = tmp_path_factory.mktemp("json") / "json.so"
    zig_cc(["-shared", "-fPIC", "-O1", "-std=c11", "-fsanitize=undefined", "-fno-sanitize-recover", "-o", str(path),
            str(NATIVE / "json.c")])  # fmt: skip
    found = ctypes.CDLL(str(path))
    found.json_read.restype = ctypes.POINTER(Node)
    found.json_nodes.restype = ctypes.c_size_t
    return found


def read(library: ctypes.CDLL, text: bytes) -> Any:
    size = ctypes.c_size_t(len(text))
    nodes = (Node * library.json_nodes(text, size))()
    room, fault = ctypes.create_string_buffer(len(text) + 1), ctypes.c_char_p()
    whole = library.json_read(text, size, nodes, room, ctypes.byref(fault))
    if not whole:
        raise ValueError(fault.value)
    return plain(whole.contents)


def plain(node: Node) -> Any:
    if node.kind <= 2:
        return (None, False, True)[node.kind]
    if node.kind == 3:
        return node.value
    if node.kind == 4:
        return ctypes.c_double.from_buffer(ctypes.c_int64(node.value)).value
    if node.kind == 5:
        return ctypes.string_at(node.value).decode()
    entries, at = [], ctypes.cast(node.value, ctypes.POINTER(Node))
    while at:
        entries.append((at.contents.key, plain(at.contents)))
        at = at.contents.next
    assert len(entries) == node.count
    return {key.decode(): value for key, value in entries} if node.kind == 7 else [value for _, value in entries]


@settings(max_examples=200, deadline=None)
@given(value=values, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_values_come_back(library: ctypes.CDLL, value: Any, ascii_only: bool, indent: int | None) -> None:
    assert read(library, json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()) == value


@settings(max_examples=300, deadline=None)
@given(value=values, data=st.data())
def test_what_python_refuses_is_refused(library: ctypes.CDLL, value: Any, data: st.DataObject) -> None:
    text = bytearray(json.dumps(value).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + data.draw(st.integers(0, 3))] = data.draw(
        st.sampled_from([b"", b",", b'"', b"}", b"\\", b"-", b"1e", b"0", b"\xc0"])
    )
    try:
        got = read(library, bytes(text))
    except ValueError:
        return
    assert got == json.loads(bytes(text))
