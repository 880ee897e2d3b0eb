"""The list of formats in which key and value rows lie in the cache: one class each."""

from __future__ import annotations

from tvm import tirx

from .builder import Builder
from .cached_attention_format import Format, layer_of
from .cached_attention_grouped import Grouped2, Grouped4
from .cached_attention_halves import Byte, Half
from .cached_attention_watched import Watched
from .registry import Call

FORMATS: dict[str, type[Format]] = {
    "f16": Half,
    "i8": Byte,
    "i4": Grouped4,
    "i2": Grouped2,
    "f16q": Watched,
}


def format_of(b: Builder, call: Call, size: int, lanes: int, past: tirx.Expr) -> Format:
    """The format that the call names, over its results: the memory of the cache as it was, too."""
    kind = FORMATS[call.attrs.get("format", "f16")]
    buffers = [b.arg(t) for t in call.results[1 : 2 + kind.extra]]
    made = kind(b, layer_of(b, int(call.attrs["layer"])), size, lanes, buffers)
    made.bind(call, past)
    return made
