"""Amounts of memory as people write them: 256K, 64M, 1.5G (powers of 1,024)."""

import re

from edgert.errors import UsageError

_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(text: int | str) -> int:
    """Bytes from a number or from text such as `262144`, `256K`, `256KiB`, `1.5M`. Raises UsageError."""
    if isinstance(text, int):
        if text < 0:
            raise UsageError(f"{text} is not an amount of memory: give 0 or more bytes")
        return text
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if not match:
        raise UsageError(f"{text!r} is not an amount of memory: write it as 262144, 256K, 64M or 1.5G")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].upper()])


def format_bytes(count: int) -> str:
    """`count` bytes for people: `512 B`, `4.6 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
