"""What is known about a model's values before it is lowered: exact shapes and types, constants, symbolic integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from tvm import tirx

from targets.errors import UnsupportedModel
from targets.kernels.tensor import Index

from .dims import make_var

SHOWN = 3  # nodes named in one line of the table


@dataclass(frozen=True)
class ValueFact:
    """The shape (ints, or int64 expressions over symbolic dims) and the element type of one value."""

    shape: tuple[Index, ...]
    dtype: str


@dataclass(frozen=True)
class Problem:
    """One thing of a model that cannot be compiled: which node, why, and the nearest form that can."""

    node: str
    op: str
    domain: str
    opset: int
    reason: str
    nearest: str = ""


class Constants(MutableMapping[str, np.ndarray]):
    """Constant values by name. Held as onnx_ir tensors, so weights stay on disk until somebody reads them."""

    def __init__(self) -> None:
        self._held: dict[str, ir.TensorProtocol] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._held[name].numpy()

    def __setitem__(self, name: str, value: np.ndarray | ir.TensorProtocol) -> None:
        self._held[name] = ir.tensor(value, name=name) if isinstance(value, np.ndarray | np.generic) else value

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def tensor(self, name: str) -> ir.TensorProtocol:
        """The tensor without reading its data: shape, dtype and nbytes cost nothing."""
        return self._held[name]


@dataclass
class Facts:
    """Everything inference found out, by value name. Names are unique in the whole model, subgraphs included."""

    values: dict[str, ValueFact] = field(default_factory=dict)
    constants: Constants = field(default_factory=Constants)
    symbolic: dict[str, np.ndarray] = field(default_factory=dict)  # dtype object: ints, bools and int64 expressions
    bounds: dict[str, tuple[int, int]] = field(default_factory=dict)  # symbolic dim -> smallest and largest value
    vars: dict[str, tirx.Var] = field(default_factory=dict)  # symbolic dim -> its one int64 variable
    fresh: set[str] = field(default_factory=set)  # the dims that only running the model gives (NonZero)
    opsets: dict[str, int] = field(default_factory=dict)  # domain -> version the model imports
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def declare(self, name: str, low: int, high: int) -> tirx.Var:
        """The variable of symbolic dim `name`, made at first use with these bounds."""
        if name not in self.vars:
            self.vars[name] = make_var(name, low, high)
            self.bounds[name] = (low, high)
        return self.vars[name]

    def forget(self, name: str) -> None:
        """Drops everything about a value that is no more."""
        self.values.pop(name, None)
        self.symbolic.pop(name, None)
        self.constants.pop(name, None)


def raise_if_unsupported(problems: Iterable[Problem]) -> None:
    """Raises UnsupportedModel with a table of all problems, one a line; returns when there are none."""
    problems = list(problems)
    if problems:
        raise UnsupportedModel(problem_table(problems))


def problem_table(problems: Iterable[Problem]) -> str:
    """All problems as text. Nodes that share operator, opset and reason share a line; `Problem`s and JSON have each."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for p in problems:
        op = f"{p.domain}.{p.op}" if p.domain else p.op
        groups.setdefault((op, str(p.opset), p.reason, p.nearest or "-"), []).append(p.node)
    rows = [("operator", "opset", "reason", "nearest supported form", "nodes")]
    for key, nodes in groups.items():
        more = f" and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else ""
        rows.append((*key, ", ".join(nodes[:SHOWN]) + more))
    widths = [min(60, max(len(row[i]) for row in rows)) for i in range(4)]
    count = sum(len(nodes) for nodes in groups.values())
    lines = [f"{count} {'node is' if count == 1 else 'nodes are'} not supported:"]
    for row in rows:
        cells = [cell.replace("\n", " ").ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)
