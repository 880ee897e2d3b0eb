"""What a manifest may say, checked value by value before anything is allocated from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from edgert import dtypes
from edgert.coding import Coding, parse_coding
from edgert.manifest_device import ABI as DEVICE_ABI
from edgert.manifest_device import DeviceCode, parse_device
from edgert.manifest_stream import parse_stream
from edgert.zipformat import PAGE
from flashload.layout import Segment
from flashload.visits import Stream

FORMAT = 1
ABI = 2
MOST_BYTES = 1 << 46  # 64 TiB: beyond any address space we run in, and far from overflowing 64 bits
MOST_EXTENT = 1 << 40
RESIDENCIES = ("resident", "streamed")
SHA256 = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,100}")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")


@dataclass(frozen=True)
class Dim:
    """A symbolic dimension of the inputs, with its bounds (both reachable)."""

    name: str
    min: int
    max: int


@dataclass(frozen=True)
class Slot:
    """An extent known only at run time: it stands in `ctx.dims[slot]` and is at most `max`."""

    slot: int
    max: int


@dataclass(frozen=True)
class Tensor:
    """An input or output: `bytes` is the room it takes at its largest."""

    name: str
    dtype: str
    shape: tuple[int | Slot, ...]
    bytes: int

    @cached_property
    def max_shape(self) -> tuple[int, ...]:
        """The shape with every symbolic extent at its largest."""
        return tuple(axis.max if isinstance(axis, Slot) else axis for axis in self.shape)

    @cached_property
    def static(self) -> bool:
        """Whether no extent is symbolic."""
        return not any(isinstance(axis, Slot) for axis in self.shape)


class _Item:
    """A JSON value with the path that led to it, for messages. Every fault is a ValueError."""

    def __init__(self, value: Any, where: str) -> None:
        self.value, self.where = value, where

    def fail(self, wanted: str) -> ValueError:
        return ValueError(f"{self.where or 'it'} is not {wanted}")

    def key(self, name: str) -> _Item:
        if not isinstance(self.value, dict):
            raise self.fail("an object")
        where = f"{self.where}.{name}" if self.where else name
        if name not in self.value:
            raise ValueError(f"{where} is missing")
        return _Item(self.value[name], where)

    def has(self, name: str) -> bool:
        return isinstance(self.value, dict) and name in self.value

    def items(self) -> list[_Item]:
        if not isinstance(self.value, list):
            raise self.fail("a list")
        return [_Item(value, f"{self.where}[{index}]") for index, value in enumerate(self.value)]

    def integer(self, low: int, high: int) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not low <= self.value <= high:
            raise self.fail(f"a whole number from {low} to {high}")
        return self.value

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value or len(self.value) > 4096:
            raise self.fail("a text of 1 to 4096 characters")
        return self.value

    def matches(self, pattern: re.Pattern[str], what: str) -> str:
        if not isinstance(self.value, str) or not pattern.fullmatch(self.value):
            raise self.fail(what)
        return self.value


@dataclass(frozen=True)
class Manifest:
    """The parts of a manifest the runner acts on."""

    name: str
    triple: str
    features: tuple[str, ...]
    dims: tuple[Dim, ...]
    dim_slots: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    arena_bytes: int
    weights_bytes: int
    resident_bytes: int
    segments: tuple[tuple[int, int, str], ...]  # offset, size, SHA-256
    entry: str
    steps: tuple[Mapping[str, Any], ...]
    members: Mapping[str, tuple[int, str]]  # name -> size, SHA-256
    stream: Stream | None  # what can be read while the model runs
    coding: Coding | None  # how weights.bin is coded
    state: frozenset[str]  # inputs that the code changes where they are: the caller makes them as large as wanted
    device: DeviceCode | None = None  # what of it runs on a graphics processor
    code: str = "code"  # the member
    variants: tuple[tuple[str, frozenset[str]], ...] = ()  # code for other processors, and the features it needs

    @property
    def stored_bytes(self) -> int:
        """Of the member weights.bin."""
        return self.weights_bytes if self.coding is None else self.coding.stored


def abi_of(manifest: Any) -> int:
    """The version of edgert_ctx that the code behind a manifest wants."""
    return DEVICE_ABI if isinstance(manifest, Mapping) and "device" in manifest else ABI


def parse(value: Any) -> Manifest:
    """Check a whole manifest. Raises ValueError naming the first value that is wrong."""
    top = _Item(value, "")
    for key, ours in (("format", FORMAT), ("abi", abi_of(value))):
        given = top.key(key).integer(0, 1 << 31)
        if given != ours:
            raise ValueError(f"its {key} is {given} and this edgert reads {ours}: compile the model again")
    dims = tuple(_dim(item) for item in top.key("dims").items())
    _distinct([dim.name for dim in dims], "dims")
    dim_slots = top.key("dim_slots").integer(len(dims), 1 << 20)
    inputs = tuple(_tensor(item, len(dims)) for item in top.key("inputs").items())
    outputs = tuple(_tensor(item, dim_slots) for item in top.key("outputs").items())
    for tensor in inputs:
        for axis in tensor.shape:
            if isinstance(axis, Slot) and axis.max != dims[axis.slot].max:
                raise ValueError(f"input {tensor.name!r} has room for {axis.max}, its dimension goes to another bound")
    _distinct([tensor.name for tensor in inputs], "inputs")
    _distinct([tensor.name for tensor in outputs], "outputs")
    arena_bytes = top.key("arena_bytes").integer(0, MOST_BYTES)
    for item in top.key("plan").items():
        item.key("name").text()
        offset = item.key("offset").integer(0, arena_bytes)
        item.key("size").integer(0, arena_bytes - offset)
    weights_bytes = top.key("weights_bytes").integer(0, MOST_BYTES)
    segments, resident_bytes = _segments(top.key("segments").items(), weights_bytes)
    steps = top.key("steps").items()
    stream = None
    if top.has("stream"):
        kinds = [item.key("residency").text() == "resident" for item in top.key("segments").items()]
        cut = [Segment(offset, size, kind) for (offset, size, _), kind in zip(segments, kinds, strict=True)]
        stream = parse_stream(top.key("stream").value, cut, len(steps), len(inputs), arena_bytes)
    device = None
    if top.has("device"):
        device = parse_device(top.key("device"), len(steps), (*inputs, *outputs), arena_bytes, weights_bytes)
    coding = parse_coding(top.key("coding").value, segments) if top.has("coding") else None
    for step in steps:
        step.key("name").text()
    target = top.key("target")
    target.key("name").text()
    if top.has("golden"):
        tolerance = top.key("golden").key("tolerance").value
        if not isinstance(tolerance, int | float) or not 0 <= tolerance < float("inf"):
            raise ValueError("golden.tolerance is not a number of 0 or more")
    state = frozenset(item.text() for item in top.key("state").items()) if top.has("state") else frozenset()
    if not state <= {tensor.name for tensor in inputs}:
        raise ValueError("state names what is no input")
    members = top.key("members")
    sizes = {name: members.key(name) for name in members.value} if isinstance(members.value, dict) else {}
    code = top.key("code").matches(_WORD, "a name") if top.has("code") else "code"
    variants = [_variant(item) for item in top.key("variants").items()] if top.has("variants") else []
    for name in ("code", code, *(f"variants/{name}.json" for name, _ in variants)):
        if name not in sizes:
            raise ValueError(f"members.{name} is missing")
    if device is not None and device.member not in sizes:
        raise ValueError(f"members.{device.member} is missing")
    return Manifest(
        name=top.key("name").text(),
        triple=target.key("triple").matches(_WORD, "a target triple"),
        features=tuple(item.matches(_WORD, "a name") for item in target.key("features").items()),
        dims=dims,
        dim_slots=dim_slots,
        inputs=inputs,
        outputs=outputs,
        arena_bytes=arena_bytes,
        weights_bytes=weights_bytes,
        resident_bytes=resident_bytes,
        segments=segments,
        entry=top.key("entry").matches(_SYMBOL, "a symbol"),
        steps=tuple(step.value for step in steps),
        members={name: (item.key("size").integer(0, MOST_BYTES), _sha256(item)) for name, item in sizes.items()},
        stream=stream,
        coding=coding,
        state=state,
        device=device,
        code=code,
        variants=tuple(variants),
    )


def _variant(item: _Item) -> tuple[str, frozenset[str]]:
    features = item.key("features").items()
    return item.key("name").matches(_WORD, "a name"), frozenset(f.matches(_WORD, "a name") for f in features)


def _sha256(item: _Item) -> str:
    return item.key("sha256").matches(SHA256, "a SHA-256 in hexadecimal")


def _distinct(names: list[str], where: str) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"{where} has a name twice")


def _dim(item: _Item) -> Dim:
    least = item.key("min").integer(0, MOST_EXTENT)
    return Dim(item.key("name").text(), least, item.key("max").integer(least, MOST_EXTENT))


def _tensor(item: _Item, slots: int) -> Tensor:
    dtype = item.key("dtype").text()
    if dtype not in dtypes.NAMES:
        raise item.key("dtype").fail(f"a known type: {dtype}")
    shape: list[int | Slot] = []
    for axis in item.key("shape").items():
        if isinstance(axis.value, dict):
            slot = axis.key("slot").integer(0, slots - 1)
            shape.append(Slot(slot, axis.key("max").integer(0, MOST_EXTENT)))
        else:
            shape.append(axis.integer(0, MOST_EXTENT))
    if len(shape) > 32:
        raise item.key("shape").fail("a shape of at most 32 axes")
    tensor = Tensor(item.key("name").text(), dtype, tuple(shape), item.key("bytes").integer(0, MOST_BYTES))
    need = prod(tensor.max_shape) * dtypes.item_size(dtype)
    if tensor.bytes < need:
        raise item.key("bytes").fail(f"room for the {need} bytes of its shape")
    return tensor


def _segments(items: list[_Item], weights_bytes: int) -> tuple[tuple[tuple[int, int, str], ...], int]:
    """Segments must cover the weights without gap or overlap, each from a page's start."""
    found, end, resident = [], 0, 0
    for item in items:
        offset = item.key("offset").integer(0, weights_bytes)
        residency = item.key("residency").text()
        if offset != end or offset % PAGE:
            raise item.key("offset").fail(f"{end}, where the segment before ends, at a multiple of {PAGE}")
        if residency not in RESIDENCIES:
            raise item.key("residency").fail(" or ".join(RESIDENCIES))
        size = item.key("size").integer(1, weights_bytes - offset)
        end = offset + size
        resident += size if residency == "resident" else 0
        found.append((offset, size, _sha256(item)))
    if end != weights_bytes:
        raise ValueError(f"segments cover {end} of {weights_bytes} bytes")
    return tuple(found), resident
