"""Attention of a language model's new rows over a cache of keys and values that outlives the call."""

from __future__ import annotations

from typing import NoReturn

from targets.kernels.cached_attention_formats import FORMATS
from targets.kernels.stage import Stage
from targets.kernels.tensor import Tensor
from targets.target import Target

from .numbers import number
from .registry import Custom, Node, Unsupported, op


@op("CachedAttention", domain="edgert")
def cached_attention(node: Node) -> Custom:
    """q [S, H * D], k, v [S, G * D] float32, cache [L, 2, G, C, D], past int64 [1], positions int64 [S],
    seen uint8 [S, S], cos, sin float32 [P, R / 2], then the format's further tensors and, where it stores old rows
    anew, folded int64 [2] (how many lie so before this call, and from its beginning on) -> out [S, H * D], the cache
    and those tensors as they are afterwards. They lie in the same memory as before: kernels only touch the results.

    rope turns the first R elements of each head of q and k by positions[i] (interleaved: neighbours are a pair, else
    i and i + R / 2). Keys and values become rows past + i of `layer` in the cache, and are used as the cache has them.
    Row i sees row t < past, and row past + j where seen[i, j] is not 0; with a `window` > 0 only those whose position
    is above positions[i] - window, where an old row's position is its number t. Softmax of q k^T `scale` in float32; a
    row that sees nothing gives zeros. The caller sees to past + S <= C (else rows within the cache are overwritten) and
    to positions within the tables (else the nearest one is taken).
    """
    inputs = [node.need(i) for i in range(9)]
    q, k, v, cache, cos = (inputs[i] for i in (0, 1, 2, 3, 7))
    heads, groups = int(node.attr("heads", 0)), int(node.attr("groups", 0))
    layer, format_ = int(node.attr("layer", 0)), node.attr("format", "f16")
    if format_ not in FORMATS:
        raise Unsupported(f"a cache of format {format_!r}", ", ".join(FORMATS))
    kind = FORMATS[format_]
    extras = [node.need(i) for i in range(9, 9 + kind.extra)]
    kinds = [*(t.dtype for t in inputs[:3]), *(t.dtype for t in inputs[4:])]
    if kinds != ["float32"] * 3 + ["int64", "int64", "uint8", "float32", "float32"]:
        raise Unsupported(f"cached attention of {', '.join(kinds)}")
    width = number(q.shape[1], "width of q")
    if groups < 1 or heads % groups or width % heads:
        raise Unsupported(f"{heads} heads in {groups} groups of a width of {width}")
    size, rotary = width // heads, 2 * number(cos.shape[1], "width of cos")
    if any(number(t.shape[1], "width") != groups * size for t in (k, v)) or rotary > size:
        raise Unsupported(f"heads of {size}, of which {rotary} turn, and keys of {k.shape[1]} in {groups} groups")
    if kind.folds:
        extras.append(node.need(9 + kind.extra))
        if extras[-1].dtype != "int64" or list(extras[-1].shape) != [2]:
            raise Unsupported("cached attention whose folded rows are not int64 [2]")
    expected = kind.shapes(int(number(cache.shape[0], "layers")), groups, cache.shape[3], size, heads // groups)
    for t, (shape, dtype) in zip([cache, *extras[: kind.extra]], expected, strict=True):
        if t.dtype != dtype or [d for i, d in enumerate(t.shape) if i != 3] != [
            d for i, d in enumerate(shape) if i != 3
        ]:
            raise Unsupported(f"a cache of {t.dtype} {list(t.shape)}", f"{dtype} {list(shape)}")
    if not 0 <= layer < int(number(cache.shape[0], "layers")):
        raise Unsupported(f"layer {layer} of {cache.shape[0]}")

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        return _refuse(size, target)

    outputs = [Tensor(q.shape, "float32", "attended")]
    outputs += [Tensor(t.shape, t.dtype, f"{t.name}_after") for t in (cache, *extras[: kind.extra])]
    state = {1 + i: source for i, source in enumerate([3, *range(9, 9 + kind.extra)])}
    return Custom(outputs, emit, (*inputs, *extras), state)


def _refuse(size: int, target: Target) -> NoReturn:
    raise Unsupported(
        f"cached attention with heads of {size} on {target.name}",
        "heads of a multiple of 16 up to 256, a cache of at least 64 rows",
    )
