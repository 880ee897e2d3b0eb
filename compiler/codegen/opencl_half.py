"""Halves in OpenCL C without cl_khr_fp16: core OpenCL only loads and stores them, and computes in float."""

from __future__ import annotations

import re
from collections.abc import Sequence

STORE = "edgert_store_half"  # in opencl_helpers.py


def stored_halves(body: str, names: Sequence[str]) -> str:
    """A kernel's text in which the elements of the pointers `names` are loaded and stored by functions.

    Every other value is a float: kernels convert what they load, and what they store.
    """
    if not names:
        return body
    access = re.compile(rf"\b({'|'.join(names)})\[")
    body = body.replace("convert_half(", "(").replace("(half)", "(float)")
    done = "\n".join(_line(line, access) for line in body.split("\n"))
    assert not re.search(r"\bhalf\d*\b(?! ?\*)", done), "a value of half precision is computed with"
    return done


def _line(line: str, access: re.Pattern[str]) -> str:
    text = line.lstrip()
    found = access.match(text)
    if found:
        end = _closing(text, found.end())
        if text[end + 1 :].startswith(" = "):
            at, value = _loads(text[found.end() : end], access), _loads(text[end + 4 :].rstrip().rstrip(";"), access)
            return f"{line[: len(line) - len(text)]}{STORE}({value}, {at}, {found[1]});"
    return _loads(line, access)


def _loads(text: str, access: re.Pattern[str]) -> str:
    found = access.search(text)
    if not found:
        return text
    end = _closing(text, found.end())
    at = _loads(text[found.end() : end], access)
    return f"{text[: found.start()]}vload_half({at}, {found[1]}){_loads(text[end + 1 :], access)}"


def _closing(text: str, start: int) -> int:
    """Where the bracket that was opened just before `start` is closed."""
    depth = 1
    for i in range(start, len(text)):
        depth += {"[": 1, "]": -1}.get(text[i], 0)
        if not depth:
            return i
    raise ValueError(f"no closing bracket: {text}")
