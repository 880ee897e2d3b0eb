"""Products of four bytes at once, summed in int32: a word of them on each side."""

from __future__ import annotations

from tvm import tirx

from .tile import side_by_side

QUAD = 4
NAMES = {kind: f"edgert_dot_{kind}" for kind in ("uu", "us", "su", "ss")}  # of functions in OpenCL C
SIGNS = {"uint8": "u", "int8": "s"}


def quad(first: tirx.Expr) -> tirx.Expr:
    """The word of the four bytes of which that load is the first."""
    return tirx.call_pure_extern("uint32", "as_uint", side_by_side(first, QUAD))


def dot(a: tirx.Expr, a_dtype: str, b: tirx.Expr, b_dtype: str, total: tirx.Expr) -> tirx.Expr:
    """total + the four products of words of those types' bytes."""
    return tirx.call_pure_extern("int32", NAMES[SIGNS[a_dtype] + SIGNS[b_dtype]], a, b, total)
