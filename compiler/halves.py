"""Which values of a model a target with `half` stores as float16."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from compiler.copies import LINE
from compiler.frontend.dims import largest
from compiler.frontend.facts import Facts
from compiler.program import Program
from targets.gpu import Gpu
from targets.kernels.storage import as_halves
from targets.target import Target

Places = list[tuple[str, str, int]]  # part, whole, and the byte where it begins there


class Halves:
    """float32 values between kernels, and large constants; not inputs and outputs, nor what the CPU works on."""

    def __init__(self, facts: Facts, target: Gpu, full: set[str]) -> None:
        """full: names of values that stay float32."""
        self.facts, self.target, self.full = facts, target, full

    def holds(self, name: str) -> bool:
        """Whether the value, which is no view of another, is stored so."""
        fact = self.facts.values.get(name)
        if fact is None or fact.dtype != "float32" or name in self.full:
            return False
        return self.target.stores_half(name, prod(largest(d) for d in fact.shape))

    def parts(self, parts: Places) -> Places:
        """Parts of values, of which the bytes were counted as float32, as they are stored; none if that differs."""
        held = {self.holds(name) for part, whole, _ in parts for name in (part, whole)}
        if True not in held:
            return parts
        if False in held or any(at % (2 * LINE) for *_, at in parts):
            return []
        return [(part, whole, at // 2) for part, whole, at in parts]


def half_values(facts: Facts, target: Target, lower: Callable[[], Program]) -> Halves | None:
    """The values for `target`; None where it stores none so. lower: gives the program with all of them whole."""
    if not (isinstance(target, Gpu) and target.half):
        return None
    left = [step for step in lower().steps if not step.stage.workgroup]
    return Halves(facts, target, {buffer.name for step in left for buffer in step.buffers})


def halved(data: Callable[[], np.ndarray]) -> np.ndarray:
    """Those float32 constants as float16."""
    return as_halves(data())
