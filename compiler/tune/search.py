"""Finds tile sizes for a template by compiling and timing its candidates in this process."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from compiler.codegen.jit import compile_stages, stage_arrays
from targets.kernels.registry import Call, templates_for
from targets.kernels.stage import Stage
from targets.kernels.tensor import Tensor
from targets.target import Target

from .records import Records

SYMBOLIC = 128  # what a symbolic dimension is measured at
REPEATS = 15  # the best of so many runs counts: the others had company on the machine


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
        candidates: list[dict[str, int]] = []
        for template in templates_for(call.op, self.target):
            space = getattr(template, "space", None)
            if space is not None:
                candidates = list(space(call, self.target))
                break
        if not candidates:
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
            # a change must pay more than the noise of measuring it
            if taken is not None and taken < 0.98 * best_time:
                best, best_time = config, taken
        self.records.add(call, best, best_time * 1e6, default * 1e6)
        self.records.save()
        return best

    def measure(self, template: Callable, call: Call, config: dict[str, int]) -> float | None:
        """Seconds of one run of the bare kernel, on one thread; None when the template does not take the tiles."""
        result = Tensor(call.outputs[0].shape, call.outputs[0].dtype, "result")
        trial = Call(call.op, call.attrs, call.inputs, call.outputs, call.outputs[0], [result], config)
        try:
            stages: list[Stage] | None = template(trial, self.target)
        except (ValueError, AssertionError):
            return None
        if not stages:
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
        for _ in range(REPEATS):
            start = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - start)
        return best
