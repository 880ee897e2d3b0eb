"""Finds tile sizes for a template by compiling and timing its candidates in this process."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from compiler.codegen.jit import compile_stages, stage_arrays
from targets.kernels.registry import Call, Template
from targets.kernels.tensor import Tensor
from targets.target import Target

from .records import Records
from .space import RUNS, WORTH, bare_stages, space_of

SYMBOLIC = 128  # what a symbolic dimension is measured at


class Tuner:
    """Gives a call's tiles from the records, or measures up to `trials` candidates and records the best."""

    def __init__(
        self, target: Target, trials: int, records: Records, progress: Callable[[str, int, int], None] | None = None
    ) -> None:
        self.target, self.trials, self.records, self.progress = target, trials, records, progress
        self.measured = 0

    def __call__(self, call: Call) -> dict[str, int]:
        """The tiles to use for `call`; empty for the template's own."""
        known = self.records(call)
        if known or not self.trials:
            return known
        template, candidates = space_of(call, self.target)
        if template is None or not candidates:
            return {}
        default = self.measure(template, call, {})
        if default is None:
            return {}
        best, best_time = {}, default
        for config in candidates[: self.trials]:
            taken = self.measure(template, call, config)
            self.measured += 1
            if self.progress:
                self.progress(f"tune {call.op}", self.measured, 0)
            if taken is not None and taken < WORTH * best_time:
                best, best_time = config, taken
        self.records.add(call, best, best_time * 1e6, default * 1e6)
        self.records.save()
        return best

    def measure(self, template: Template, call: Call, config: dict[str, int]) -> float | None:
        """Seconds of one run of the bare kernel, on one thread; None when the template does not take the tiles."""
        stages = bare_stages(template, call, config, self.target)
        if stages is None:
            return None
        names = {var.name for stage in stages for var in stage.dims}
        dims = dict.fromkeys(names, SYMBOLIC)
        rng = np.random.default_rng(0)
        arrays = stage_arrays(stages, {}, [], dims)
        operands = {id(operand): operand for stage in stages for operand in stage.operands}
        for leaf in operands.values():
            if not isinstance(leaf, Tensor) or leaf.data is not None:
                continue
            arrays[id(leaf)][...] = rng.standard_normal(arrays[id(leaf)].shape)
        run = compile_stages(stages, self.target)(arrays, dims)
        best = float("inf")
        for _ in range(RUNS):
            start = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - start)
        return best
