"""Dense layers: [M, K] x constant [K, N], packed at compile time. M may be symbolic. A 1x1 convolution is one, too."""

from __future__ import annotations

import numpy as np

from targets.target import Target

from .amx_gemm import amx_product
from .arm.product import arm_product
from .dot import dot_of
from .dot_tile import quads_const
from .gemm_kernel import matrix_product
from .gemm_tasks import known_rows
from .packing import panel_const
from .registry import Call, template
from .stage import Const, Stage
from .tensor import Tensor, product
from .tiles import near_best


@template("edgert.Gemm")
def gemm(call: Call, target: Target) -> list[Stage] | None:
    """A [M, K] x B [K, N] (transB: [N, K]) constant, float32."""
    a, w = call.inputs[0], call.inputs[1]
    if a is None or w is None or w.data is None or a.dtype != "float32" or w.dtype != "float32":
        return None
    swapped = bool(call.attrs.get("transB", 0))
    depth, cols = (int(s) for s in (w.shape[::-1] if swapped else w.shape))
    rows = product(a.shape[:-1])
    if 0 in (depth, cols) or (isinstance(rows, int) and rows == 0):
        return None

    def matrix(data: np.ndarray) -> np.ndarray:
        return data.T if swapped else data

    how = "transposed" if swapped else "plain"
    return arm_product(
        call, target, "gemm", rows, a, lambda: matrix(np.asarray(w.data())), depth, cols, f"{w.name}:{how}",  # type: ignore[misc]
    ) or matrix_product(
        call, target, "gemm", rows, a, lambda nr: panel_const(w, matrix, depth, cols, nr, how), depth, cols,
    )  # fmt: skip


def space(call: Call, target: Target) -> list[dict[str, int]]:
    """Tile sizes worth measuring for a matrix product."""
    a, w = call.inputs[0], call.inputs[1]
    if a is None or w is None:
        return []
    depth, cols = (int(s) for s in (w.shape[::-1] if call.attrs.get("transB", 0) else w.shape))
    tiles = near_best(known_rows(product(a.shape[:-1])), cols, depth, target)
    return [{"mr": t.rows, "nr": t.cols} for t in tiles]


@template("edgert.GemmInteger")
def gemm_integer(call: Call, target: Target) -> list[Stage] | None:
    """A [..., M, K] bytes x B [K, N] (transB: [N, K]) constant int8, summed in int32."""
    a, w = call.need(0), call.need(1)
    depth, cols = (int(s) for s in (w.shape[::-1] if call.attrs.get("transB", 0) else w.shape))
    rows = product(a.shape[:-1])
    if not bytes_fit(a, w, target) or 0 in (depth, cols) or (isinstance(rows, int) and rows == 0):
        return None
    swapped = bool(call.attrs.get("transB", 0))
    how = "transposed" if swapped else "plain"

    def matrix(data: np.ndarray) -> np.ndarray:
        return data.T if swapped else data

    def weights(nr: int) -> Const:
        return quads_const(w, matrix, depth, cols, nr, how)

    def whole() -> np.ndarray:
        return matrix(np.asarray(w.data()))  # type: ignore[misc]

    key = f"{w.name}:{how}"
    product_ = call, target, "gemm", rows, a
    on_tiles = amx_product(*product_, whole, depth, cols, key) or arm_product(*product_, whole, depth, cols, key)
    return on_tiles or matrix_product(*product_, weights, depth, cols)


def bytes_fit(a: Tensor, w: Tensor, target: Target) -> bool:
    """Whether the target's way of summing takes these types: constant int8 weights and a left side of bytes."""
    signed = ("int8",) if dot_of(target).signed_left else ()
    return w.data is not None and w.dtype == "int8" and a.dtype in ("uint8", *signed)


gemm.space = space  # type: ignore[attr-defined]
