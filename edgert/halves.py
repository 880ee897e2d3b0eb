"""What an artifact says of values and weights that are stored as float16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def halves_text(halves: Mapping[str, Any]) -> str:
    """The manifest's `halves` in words. Raises KeyError where it is incomplete."""
    kept, share = len(halves["float32"]), halves["kept_bytes"] / max(1, halves["bytes"])
    error = f"answers move by {halves['error']:.1e} of their range"
    if not kept:
        return f"large values and weights: {error}"
    return (
        f"large values and weights but {kept} of {halves['values']} ({share:.0%} of the bytes), kept float32: {error}, "
        f"by {halves['error_all']:.1e} if all were float16"
    )
