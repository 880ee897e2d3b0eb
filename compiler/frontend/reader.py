"""Reads an ONNX model; weights stay on disk."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from edgert.errors import EdgertError


def read_model(path: Path | str | ir.Model) -> ir.Model:
    """The model at `path` (or a copy of one in memory, since inference changes it). Raises EdgertError."""
    if isinstance(path, ir.Model):
        return path.clone()
    if not Path(path).is_file():
        raise EdgertError(f"{path}: not a file")
    return ir.load(path)
