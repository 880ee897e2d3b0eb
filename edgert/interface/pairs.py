"""The small notations of the command line: x=1x3x224x224, seq=1..512, x=file.npy.

Each parser raises ValueError that says what was expected.
"""

import re


def _split(text: str, form: str) -> tuple[str, str]:
    # From the right: names of ONNX values may hold a '=', shapes and ranges never do.
    name, equals, value = text.rpartition("=")
    if not (name and equals and value):
        raise ValueError(f"{text!r} is not {form}")
    return name, value


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`x=1x3x224x224` as ("x", (1, 3, 224, 224)); `x=scalar` as ("x", ())."""
    form = "NAME=DIMS, as in x=1x3x224x224"
    name, value = _split(text, form)
    if value == "scalar":
        return name, ()
    if not re.fullmatch(r"\d+(x\d+)*", value):
        raise ValueError(f"{text!r} is not {form}")
    return name, tuple(int(part) for part in value.split("x"))


def parse_dim(text: str) -> tuple[str, tuple[int, int]]:
    """`seq=1..512` as ("seq", (1, 512)), `seq=128` as ("seq", (128, 128)); both bounds included."""
    form = "NAME=MIN..MAX, as in seq=1..512"
    name, value = _split(text, form)
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", value)
    if not match:
        raise ValueError(f"{text!r} is not {form}")
    low = int(match[1])
    high = int(match[2] or low)
    if not 1 <= low <= high:
        raise ValueError(f"{text!r}: the bounds must be at least 1 and in order")
    return name, (low, high)


def parse_input(text: str) -> tuple[str, str]:
    """`x=photo.png` as ("x", "photo.png"). A '=' in the file's name is fine, one in the input's name is not."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"{text!r} is not NAME=FILE, as in x=photo.png")
    return name, value


def parse_percent(text: str) -> float:
    """`0.5%` or `0.005` as 0.005, from 0 to 1."""
    number, percent = (text[:-1], 100) if text.endswith("%") else (text, 1)
    try:
        value = float(number) / percent
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"{text!r} is not a percentage, as in 0.5%")
    return value
