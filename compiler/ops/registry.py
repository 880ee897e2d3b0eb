"""The operators: what each computes, keyed by domain, name and opset.

A handler takes a Node and gives its outputs as tensor expressions (maps and reductions), from which shapes and types
follow too: one definition serves inference, fusion and code. Example:

    @op("Add", since=7, kind="elementwise")
    def add(node: Node) -> Tensor:
        return broadcast(node, lambda a, b: a + b)
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
from tvm import tirx

from targets.kernels.stage import Stage
from targets.kernels.tensor import Index, Tensor
from targets.target import Target

# elementwise: element i of the output depends on element i (broadcast) of the inputs; injective: on one element
# somewhere, cheap to recompute; view: the same bytes under another shape; anchor: everything else
Kind = Literal["elementwise", "injective", "view", "anchor"]


class Unsupported(Exception):
    """This form of an operator cannot be compiled: why, and the nearest form that can."""

    def __init__(self, reason: str, nearest: str = "") -> None:
        super().__init__(reason)
        self.reason, self.nearest = reason, nearest


@dataclass(eq=False)
class Custom:
    """An operator written as kernels by hand: outputs are leaves; `emit(target, results)` gives their stages.

    state: outputs that are an input in the same memory, changed; by number, output to input. macs: how many
    multiply-accumulates it takes, where it says so.
    """

    outputs: list[Tensor]
    emit: Callable[[Target, list[Tensor]], list[Stage]]
    inputs: tuple[Tensor, ...] = ()
    state: dict[int, int] = field(default_factory=dict)
    macs: int = 0


Result = Tensor | Sequence[Tensor | None] | Custom


@dataclass(eq=False)
class Node:
    """One operator as its handler sees it. inputs are leaves (None where omitted); `outputs` says which are wanted."""

    op: str
    domain: str
    version: int  # the model's opset for that domain
    name: str
    inputs: list[Tensor | None]
    attrs: dict[str, Any]  # Python numbers, strings, lists; tensors as numpy arrays
    outputs: list[bool]
    constants: list[np.ndarray | None]  # inputs known at compile time; dtype object where entries are symbolic (Index)
    output_dtypes: list[str | None] = field(default_factory=list)  # as declared by the model, where known
    output_shapes: list[tuple | None] = field(default_factory=list)
    fresh: Callable[[str, int], tirx.Expr] | None = None  # makes a dimension known only at run time, with its maximum

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute of that name, `default` when the model does not give it."""
        return self.attrs.get(name, default)

    def input(self, i: int) -> Tensor | None:
        """Input i, None when omitted."""
        return self.inputs[i] if i < len(self.inputs) else None

    def need(self, i: int) -> Tensor:
        """Input i. Raises Unsupported when omitted."""
        t = self.input(i)
        if t is None:
            raise Unsupported(f"input {i} is missing")
        return t

    def const(self, i: int) -> np.ndarray | None:
        """Input i's value where all of it is a number known at compile time, else None."""
        value = self.constants[i] if i < len(self.constants) else None
        return None if value is None or value.dtype == object else value

    def ints(self, i: int, what: str) -> list[Index] | None:
        """Input i as a list of ints or symbolic Index expressions (a shape, axes, pads); None when omitted.

        Raises Unsupported when it is only known at run time.
        """
        if self.input(i) is None:
            return None
        value = self.constants[i] if i < len(self.constants) else None
        if value is None:
            raise Unsupported(f"{what} must be known at compile time", f"{self.op} with constant {what}")
        return [v if isinstance(v, tirx.Expr) else int(v) for v in value.reshape(-1).tolist()]


@dataclass(frozen=True)
class OpDef:
    """One registered operator from opset `since` on."""

    name: str
    domain: str
    since: int
    kind: Kind
    lower: Callable[[Node], Result]


REGISTRY: dict[tuple[str, str], list[OpDef]] = {}


def op(*names: str, since: int = 1, kind: Kind = "anchor", domain: str = "") -> Callable[[Callable], Callable]:
    """Registers a handler for operators `names` from opset `since` until a later registration takes over."""

    def register(fn: Callable[[Node], Result]) -> Callable[[Node], Result]:
        for name in names:
            defs = REGISTRY.setdefault((domain, name), [])
            defs.append(OpDef(name, domain, since, kind, fn))
            defs.sort(key=lambda d: d.since)
        return fn

    return register


def find(domain: str, name: str, version: int) -> OpDef | None:
    """The definition in force at that opset; None when there is none."""
    load_all()
    domain = "" if domain == "ai.onnx" else domain
    able = [d for d in REGISTRY.get((domain, name), []) if d.since <= version]
    return able[-1] if able else None


@cache  # not "when REGISTRY is empty": whoever imports one module of operators fills it in part
def load_all() -> None:
    """Imports every module of this package, which registers the operators."""
    package = importlib.import_module("compiler.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"compiler.ops.{module.name}")
