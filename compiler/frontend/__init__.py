"""From an ONNX file to a graph about which everything is known: read, specialise, infer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from .facts import Facts, Problem, ValueFact, raise_if_unsupported
from .inference import infer
from .nodes import make_node
from .reader import read_model
from .report import Report, report
from .specialise import Bounds, specialise


def load(
    path: Path | str | ir.Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, tuple[int, int]] | None = None,
    open_dims: tuple[int, int] | None = None,
) -> tuple[ir.Model, Facts]:
    """The model with its inputs specialised, and the facts about it. Unsupported nodes are in `Facts.problems`.

    open_dims: bounds for dimensions that neither `shapes` nor `dims` give (for `inspect`); else they are an error.

    Raises EdgertError (cannot be read), UsageError (wrong --shape or --dim), UnsupportedModel (too old or new).
    """
    model = read_model(path)
    bounds = specialise(model, shapes or {}, dims or {}, open_dims)
    return model, infer(model, bounds)


__all__ = [
    "Bounds", "Facts", "Problem", "Report", "ValueFact", "infer", "load", "make_node", "raise_if_unsupported",
    "read_model", "report", "specialise",
]  # fmt: skip
