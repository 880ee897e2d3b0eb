"""Plans for a budget of memory before there is a process: what an artifact will do as a program, and through Python."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from edgert import manifest as schema
from edgert.artifact_parts import Buffer, complete
from edgert.budget import plan_for, plan_text
from edgert.errors import DoesNotFit
from edgert.manifest import Manifest, Slot
from edgert.units import format_bytes

# What a process takes before it has any weights, about: the program of `--emit exe`, and Python with numpy
PROCESSES = {"as a program": 2 << 20, "through Python": 36 << 20}
TOKENS = 512  # of a language model's cache, where nothing else is said
ROWS = 8  # of logits


def plans(manifest: Mapping[str, Any], code: Buffer, budget: int) -> list[str]:
    """A line for each kind of process that the budget of `budget` bytes suffices for, or why it does not.

    Raises DoesNotFit where it suffices for none."""
    return plan_lines(schema.parse(complete(manifest, {"code": code})), manifest, budget)


def plan_lines(spec: Manifest, manifest: Mapping[str, Any], budget: int) -> list[str]:
    """`plans` of a checked manifest."""
    if spec.stream is None:
        need = spec.arena_bytes + spec.weights_bytes + sum(t.bytes for t in (*spec.inputs, *spec.outputs))
        if need > budget:
            raise DoesNotFit(
                f"needs {need} bytes (arena, weights, inputs and outputs), the budget is {budget}; its weights are too "
                "small to be read while it runs"
            )
        return [f"in {format_bytes(budget)} all weights stay in memory"]
    lines, refused = [], None
    for kind, size in PROCESSES.items():
        try:
            lines.append(f"{kind}: {plan_text(plan_for(spec, budget, size, reserved(spec, manifest)))}")
        except DoesNotFit as error:
            refused = refused or error
            lines.append(f"{kind}: {error}")
    if refused is not None and len(lines) == len(PROCESSES) and all("needs at least" in line for line in lines):
        raise refused
    return lines


def reserved(spec: Manifest, manifest: Mapping[str, Any]) -> dict[str, int]:
    """What a language model needs beside its arena: its cache for a text of middle length, and logits."""
    facts = manifest.get("decoder")
    if not isinstance(facts, dict):
        return {}
    tokens = min(TOKENS, int(facts["context"]))
    shapes = [
        (t.dtype, [tokens if isinstance(a, Slot) else a for a in t.shape]) for t in spec.inputs if t.name in spec.state
    ]
    cache = sum(prod(shape) * np.dtype(dtype).itemsize for dtype, shape in shapes)
    return {f"KV cache of {tokens} tokens": cache, "inputs and outputs": ROWS * int(facts["vocab"]) * 4}
