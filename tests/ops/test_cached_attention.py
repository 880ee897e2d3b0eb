"""Attention over a cache as an operator: shapes and types of its outputs, and what is refused with a reason."""

from __future__ import annotations

import pytest
from tvm import tirx

from compiler.ops.registry import Custom, Node, Unsupported, find
from targets import get_target
from targets.kernels.cached_attention_formats import FORMATS
from targets.kernels.tensor import Tensor

HEADS, GROUPS, SIZE = 6, 2, 64
ROWS, CAPACITY = tirx.Var("rows", "int64"), tirx.Var("capacity", "int64")
SHAPES: dict[str, tuple[tuple, str]] = {
    "q": ((ROWS, HEADS * SIZE), "float32"),
    "k": ((ROWS, GROUPS * SIZE), "float32"),
    "v": ((ROWS, GROUPS * SIZE), "float32"),
    "cache": ((3, 2, GROUPS, CAPACITY, SIZE), "float16"),
    "past": ((1,), "int64"),
    "positions": ((ROWS,), "int64"),
    "seen": ((ROWS, ROWS), "uint8"),
    "cos": ((512, SIZE // 2), "float32"),
    "sin": ((512, SIZE // 2), "float32"),
}


def lowered(attrs: dict | None = None, **changed: tuple[tuple, str]) -> Custom:
    """What the operator says of inputs as in SHAPES, but for those `changed`."""
    leaves: list[Tensor | None] = [Tensor(*kind, name) for name, kind in (SHAPES | changed).items()]
    given = {"heads": HEADS, "groups": GROUPS, "layer": 2, "format": "f16"} | (attrs or {})
    definition = find("edgert", "CachedAttention", 1)
    assert definition is not None
    node = Node("CachedAttention", "edgert", 1, "a", leaves, given, [True, True], [None] * len(leaves))
    made = definition.lower(node)
    assert isinstance(made, Custom)
    return made


def test_outputs_are_shaped_like_the_queries_and_the_cache() -> None:
    outputs = lowered().outputs
    assert [(t.shape, t.dtype) for t in outputs] == [SHAPES["q"], SHAPES["cache"]]


@pytest.mark.parametrize("format_", ["i8", "i4", "i2"])
def test_codes_have_further_tensors(format_: str) -> None:
    kind = FORMATS[format_]
    cache, *extras = kind.shapes(3, GROUPS, CAPACITY, SIZE, HEADS // GROUPS)
    changed = {"cache": cache} | {f"extra{i}": extra for i, extra in enumerate(extras)}
    folded = {"folded": ((2,), "int64")} if kind.folds else {}
    outputs = lowered({"format": format_}, **changed, **folded).outputs
    assert [(t.shape, t.dtype) for t in outputs[1:]] == [cache, *extras]
    shape, dtype = extras[0]
    with pytest.raises(Unsupported, match="a cache of"):
        lowered({"format": format_}, **changed | {"extra0": ((7, *shape[1:]), dtype)}, **folded)
    if kind.folds:
        with pytest.raises(Unsupported, match="folded"):
            lowered({"format": format_}, **changed, folded=((1,), "int64"))


@pytest.mark.parametrize(
    ("attrs", "changed", "says"),
    [
        ({"format": "i3"}, {}, "i3"),
        ({"groups": 4}, {}, "6 heads in 4 groups"),
        ({"layer": 3}, {}, "layer 3 of 3"),
        ({}, {"cache": ((3, 2, GROUPS, CAPACITY, SIZE), "float32")}, "a cache of float32"),
        ({}, {"k": ((ROWS, SIZE), "float32")}, "keys of 64"),
        ({}, {"cos": ((512, SIZE), "float32")}, "of which 128 turn"),
        ({}, {"positions": ((ROWS,), "int32")}, "int32"),
    ],
)
def test_what_is_refused(attrs: dict, changed: dict, says: str) -> None:
    with pytest.raises(Unsupported, match=says):
        lowered(attrs, **changed)


def test_no_generic_way() -> None:
    """A head that no kernel takes is refused when it comes to code, with what would do."""
    with pytest.raises(Unsupported, match="heads of 64"):
        lowered().emit(get_target("x86-64-avx2"), [])
