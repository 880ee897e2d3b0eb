"""Functions of OpenCL C that kernels call, each part of a program that has need of it."""

from __future__ import annotations

from targets.kernels.gpu.dot import NAMES

# what is finite stays finite: a mask of -1e38 in place of minus infinity, say
_STORE_HALF = """void edgert_store_half(float value, long at, __global half* p) {
  vstore_half(fabs(value) > 65504.0f && !isinf(value) ? copysign(65504.0f, value) : value, at, p);
}
"""
_TYPES = {"u": "uchar4", "s": "char4"}


def _dot(kind: str) -> str:
    """The sum of an int and four products of bytes, by one instruction where the device has it."""
    left, right = (_TYPES[sign] for sign in kind)
    return f"""int edgert_dot_{kind}(uint a, uint b, int sum) {{
#ifdef cl_khr_integer_dot_product
  return sum + (int)dot_4x8packed_{kind}_{"uint" if kind == "uu" else "int"}(a, b);
#else
  {left} x = as_{left}(a);
  {right} y = as_{right}(b);
  return sum + x.s0 * y.s0 + x.s1 * y.s1 + x.s2 * y.s2 + x.s3 * y.s3;
#endif
}}
"""


HELPERS = {"edgert_store_half": _STORE_HALF, **{name: _dot(kind) for kind, name in NAMES.items()}}


def helpers(kernels: str) -> str:
    """The functions that the text of `kernels` calls."""
    return "".join(text for name, text in HELPERS.items() if name + "(" in kernels)
