"""Run an artifact: numpy, ctypes and the C runtime, nothing else."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edgert import cpu
from edgert.artifact import Artifact
from edgert.binding import bind_inputs, make_output, shape_output
from edgert.errors import DoesNotFit, EdgertError, UsageError
from edgert.machine import check_machine, check_memory, usable_features
from edgert.native.code import Code
from edgert.native.library import MOST_THREADS, runtime
from edgert.units import format_bytes

if TYPE_CHECKING:  # what plans a budget is only loaded where there is one
    from edgert.budget import Budget, OpenSource
    from flashload.profile import FlashProfile


class _Program:
    """What sessions of one artifact share: the mapped file, the loaded code, the runtime. Never changes."""

    def __init__(self, artifact: Artifact, threads: int, streamed: bool = False) -> None:
        self.artifact, self.spec, self.threads = artifact, artifact.spec, threads
        self.library = runtime()
        if any(feature.startswith("amx_") for feature in self.spec.features) and self.library.edgert_rt_permit_amx():
            raise EdgertError(f"{artifact.path}: needs AMX, which this system does not permit")
        self.code = Code(artifact.code, self.spec.entry)
        artifact.leave()  # the code was copied
        self.pool = self.library.edgert_rt_get(threads)
        # A view of the mapping, so that the weights stay mapped as long as the program lives.
        self.weights = np.frombuffer(b"" if streamed else artifact.weights, np.uint8)
        self.weights_at = self.weights.ctypes.data


class Model:
    """A loaded model with its own arena. One run at a time; a second thread waits, or works on a `clone`."""

    def __init__(self, program: _Program, budget: Budget | None = None) -> None:
        """Use `load` or `clone`."""
        self._program, self._weights = program, budget
        spec = program.spec
        self._lock = threading.Lock()
        try:
            self._arena: mmap.mmap | None = _anonymous(spec.arena_bytes)
        except (OSError, ValueError, OverflowError) as error:
            raise DoesNotFit(f"no memory for the arena of {format_bytes(spec.arena_bytes)}: {error}") from None
        self._arena_at = ctypes.addressof(ctypes.c_char.from_buffer(self._arena))

    @property
    def manifest(self) -> dict[str, Any]:
        """The artifact's manifest, as in docs/artifact.md."""
        return self._program.artifact.manifest

    @property
    def arena_bytes(self) -> int:
        """Bytes of working memory; allocated when the model was loaded, never again."""
        return self._program.spec.arena_bytes

    @property
    def threads(self) -> int:
        """Threads that parallel loops are split among."""
        return self._program.threads

    @property
    def artifact(self) -> Artifact:
        """The open artifact behind this model."""
        return self._program.artifact

    def run(self, inputs: Mapping[str, Any], out: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Run the model on arrays by input name and give arrays by output name.

        Types and shapes must be the manifest's (bfloat16 and float8 also as raw bits). `out` may hold arrays to write
        outputs to: contiguous, of the output's type, and for symbolic shapes with room for the largest. Raises
        UsageError for inputs that do not fit the model, EdgertError naming the step when the model itself fails."""
        return self._run(inputs, out, None)

    def profile(self, inputs: Mapping[str, Any], runs: int = 1) -> list[dict[str, Any]]:
        """Run once to warm up, then `runs` times; the manifest's steps, each with its fastest time as `ns`."""
        steps = self._program.spec.steps
        counts = (ctypes.c_int64 * max(1, len(steps)))()
        self._run(inputs, None, counts)
        best = [2**63 - 1] * len(steps)
        for _ in range(max(1, runs)):
            self._run(inputs, None, counts)
            best = [min(pair) for pair in zip(best, counts, strict=False)]
        return [{**step, "ns": ns} for step, ns in zip(steps, best, strict=True)]

    def bind(self, inputs: Mapping[str, Any], out: Mapping[str, np.ndarray]) -> Bound:
        """Check arrays once, for many runs on them: what goes in and comes out changes in place.

        `out` has every output. Raises UsageError as `run` does, and for an input that is no contiguous array."""
        bound = Bound(self, inputs, out)
        if len(out) != len(bound.results) or any(a is not inputs[n] for n, a in bound.arrays.items()):
            raise UsageError("to run again on the same arrays give contiguous ones, and one for every output")
        return bound

    def _run(self, inputs: Mapping[str, Any], out: Mapping[str, np.ndarray] | None, counts: Any) -> dict[str, Any]:
        given = out or {}
        with self._lock:
            bound = Bound(self, inputs, given)
            self._call(bound.io, bound.dims, counts)
            return {
                tensor.name: shape_output(tensor, array, bound.dims, tensor.name not in given)
                for tensor, array in zip(self._program.spec.outputs, bound.results, strict=True)
            }

    def _call(self, io: Any, dims: Any, counts: Any = None) -> None:
        """Run on bound buffers; the caller holds the lock."""
        program, spec = self._program, self._program.spec
        if self._closed:
            raise UsageError("the model is closed")
        for slot in range(len(spec.dims), spec.dim_slots):
            dims[slot] = -1  # a dimension the code forgets to write is then noticed
        failed, reason = self._execute(io, dims, counts)
        if failed and reason:
            raise EdgertError(f"{program.artifact.path}: {reason}")
        if failed:
            raise EdgertError(_failure(spec.steps, failed))

    @property
    def _closed(self) -> bool:
        return self._arena is None

    def _execute(self, io: Any, dims: Any, counts: Any) -> tuple[int, str]:
        """What the model's code gave, and the reason where something else failed."""
        program, spec = self._program, self._program.spec
        stream = None if self._weights is None else self._weights.open()
        failed = program.library.edgert_rt_run_streamed(
            program.pool, program.code.entry, stream, self._arena_at, program.weights_at, io, dims, counts,
            len(spec.steps),
        )  # fmt: skip
        return failed, self._weights.error if failed and self._weights is not None else ""

    def clone(self) -> Model:
        """Another session with an arena of its own and the same weights and code, for use in another thread.

        Raises UsageError where a budget was given: it is for one session."""
        if self._arena is None:
            raise UsageError("the model is closed")
        if self._weights is not None:
            raise UsageError("a model inside a budget has one session: load it again, with a budget of its own")
        return Model(self._program)

    def close(self) -> None:
        """Give the arena back, waiting for a run under way; code and weights go with the last session."""
        with self._lock:
            self._arena = None
            if self._weights is not None:
                self._weights.close()
                self._weights = None

    def rest(self) -> None:
        """Give back what runs touched of the arena, which holds nothing between them; the next one gets it anew. For a
        model whose coming runs are smaller. (Within a budget the arena's place is planned, and stays.)"""
        with self._lock:
            if self._arena is not None and self._weights is None:
                self._arena.madvise(mmap.MADV_DONTNEED)

    @property
    def memory(self) -> Budget | None:
        """The budget this model was loaded with and its plan; None without one, or where nothing can be streamed."""
        return self._weights

    def resize(self, dram: int | str) -> None:
        """Shrink or grow to another budget for the whole process; waits for a run under way.

        Raises DoesNotFit, leaving the old budget, UsageError for a model that was loaded without one."""
        with self._lock:
            if self._weights is None:
                raise UsageError("the model has no budget of memory to change: load it with dram=...")
            from edgert.budget import parse_budget

            self._weights.resize(parse_budget(dram))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Bound:
    """Arrays that were checked against a model's inputs and outputs, as its code takes them. From `Model.bind`."""

    def __init__(self, model: Model, inputs: Mapping[str, Any], out: Mapping[str, np.ndarray]) -> None:
        """Raises UsageError for arrays that do not fit the model."""
        self._model, spec = model, model.artifact.spec
        self.dims = (ctypes.c_int64 * max(1, spec.dim_slots))()
        arrays = bind_inputs(inputs, spec.inputs, spec.dims, self.dims)
        self.arrays = {tensor.name: array for tensor, array in zip(spec.inputs, arrays, strict=True)}
        if not out.keys() <= {tensor.name for tensor in spec.outputs}:
            raise UsageError(f"out has an unknown name: the outputs are {[t.name for t in spec.outputs]}")
        for name in spec.state:
            if self.arrays[name] is not inputs[name] or not inputs[name].flags.writeable:
                raise UsageError(f"input {name!r} is changed where it is: give a contiguous, writable array")
        self.results = [make_output(tensor, out.get(tensor.name)) for tensor in spec.outputs]
        if out and any(np.may_share_memory(a, b) for a in arrays for b in self.results):
            raise UsageError("an array in out overlaps an input")
        at = [array.__array_interface__["data"][0] for array in (*arrays, *self.results)]
        self.io = (ctypes.c_void_p * max(1, len(at)))(*at)

    def run(self) -> None:
        """One run on what the inputs hold now. Raises EdgertError as `Model.run` does."""
        with self._model._lock:
            self._model._call(self.io, self.dims)


def _anonymous(size: int) -> mmap.mmap:
    """`size` bytes of zeros from a page's start, this process's own: after a fork the child writes to a copy."""
    return mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _failure(steps: tuple[Mapping[str, Any], ...], failed: int) -> str:
    """What a non-zero answer of the model code means: 1 + the step that failed."""
    if 1 <= failed <= len(steps):
        step = steps[failed - 1]
        return f"step {failed - 1}, {step['name']!r} ({step.get('op', 'unknown operator')}), failed on these inputs"
    return f"the model code failed with {failed}"


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    dram: int | str | None = None,
    program: str | None = None,
    profile: FlashProfile | str | None = None,
    source: OpenSource | None = None,
    device: str = "local",
) -> Model:
    """Load the artifact at `path`; of one with several programs, that of this name; of one with code for several
    processors, the first that runs here (`model.manifest["target"]` says which).

    `threads`: how many share the parallel loops (default: the cores this process may use). `dram`: a budget for
    the whole process, in bytes, as `64M`, or `auto`: weights for which there is no room are read while the model runs.
    (Of an artifact whose weights are all small, a budget for arena, weights, inputs and outputs.) Default: what the
    artifact was compiled for. `profile`: how fast the flash is, to plan for, or a name of such (edgert devices
    --profile); `source`: see Budget. `device`: `opencl://N` for an artifact compiled for a graphics processor (default:
    the first one). Everything is checked before anything is allocated: the file's integrity (with a
    budget, weights when they are first read), the processor, the budget. Raises UsageError for a missing file or wrong
    option, EdgertError for a damaged file or a machine that cannot run it, DoesNotFit with what is needed and there."""
    count = cpu.core_count() if threads is None else threads
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_THREADS:
        raise UsageError(f"threads is {count!r}: give a number from 1 to {MOST_THREADS}")
    artifact = Artifact.open(path, verify=False)
    if dram is None:
        dram = artifact.manifest.get("dram")  # what it was compiled for
    budget = None
    if dram is not None:
        from edgert.budget import Budget, parse_budget

        budget = parse_budget(dram)
    artifact.check(weights=budget is None)
    if program is not None:
        artifact.select(program)
    artifact.choose(usable_features(artifact))
    check_machine(artifact)
    if artifact.spec.device is not None:
        from edgert.opencl.model import OpenClModel

        if budget is not None:
            raise UsageError(f"{artifact.path}: is for a graphics processor, whose memory --dram does not divide")
        return OpenClModel(_Program(artifact, count), "opencl://0" if device == "local" else device)
    if device != "local":
        raise UsageError(f"{artifact.path}: compiled for {artifact.manifest['target']['name']}, not for {device}")
    if budget is not None and artifact.spec.stream is not None:
        return Model(_Program(artifact, count, streamed=True), Budget(artifact, budget, profile, source))
    check_memory(artifact, budget)
    return Model(_Program(artifact, count))
