"""A budget of memory for the whole process: what of it is gone, what stays in the rest, and what is read as it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from edgert import cpu
from edgert.coding import SCRATCH, coded_source
from edgert.errors import DoesNotFit, EdgertError
from edgert.memory_use import memory
from edgert.native.sources import opened
from edgert.native.streams import Stream
from edgert.units import format_bytes, parse_bytes
from flashload.named_profiles import named, usual
from flashload.plan import READER_BYTES, TIMEOUT_MS, Plan, plan, refuse
from flashload.profile import FlashProfile

if TYPE_CHECKING:
    from edgert.artifact import Artifact
    from edgert.manifest import Manifest

AUTO = "auto"
MARGIN = 1 << 20  # and a hundredth of the budget: what a process takes here and there once it runs
OpenSource = Callable[[str], int]


def parse_budget(dram: int | str) -> int:
    """Bytes; `auto` is nine tenths of the memory now free and what this process has. Raises UsageError."""
    if dram != AUTO:
        return parse_bytes(dram)
    free, taken = cpu.available_memory(), memory()
    if free is None:
        raise EdgertError("--dram auto: the system does not say how much memory is free: give an amount")
    return (taken["rss_anon"] or 0) + free * 9 // 10


class Budget:
    """The memory of one session of an artifact that can be streamed. Its weights are opened at the first run, once all
    else has been made that the process will need."""

    def __init__(
        self, artifact: Artifact, budget: int, profile: FlashProfile | str | None, source: OpenSource | None = None
    ) -> None:
        """profile: of the flash, or its name (default: this machine's where it was measured).
        source: gives an edgert_source (edgert/native/source.h) for a path, instead of the file. Raises DoesNotFit
        where even the least that streaming takes does not fit."""
        self._artifact, self._budget, self._source = artifact, budget, source
        self._profile = named(profile) if isinstance(profile, str) else profile or usual()
        self._reserved: dict[str, int] = {}
        self._process: int | None = None
        self._stream: Stream | None = None
        self._plan: Plan | None = None
        self._check()

    @property
    def plan(self) -> Plan:
        """For what is known by now; the one in force once weights were opened."""
        if self._plan is None:
            self._plan = self._made()
        return self._plan

    def reserve(self, name: str, size: int) -> None:
        """Counts `size` bytes that the caller goes on to use (a KV cache). Raises DoesNotFit."""
        self._reserved[name] = size
        self._renew()

    def open(self) -> int:
        """The stream's handle. At the first call reads what stays; raises EdgertError, DoesNotFit."""
        if self._stream is None:
            self._plan = self._made()
            self._process = self._plan.parts.get("process")
            self._stream = self._opened()
        assert self._stream.handle is not None
        return self._stream.handle

    def resize(self, budget: int) -> None:
        """Another budget from now on. Raises DoesNotFit, leaving the old one, EdgertError."""
        before, self._budget = self._budget, budget
        try:
            self._renew()
        except DoesNotFit:
            self._budget = before
            raise

    def _renew(self) -> None:
        """Makes room as numbers changed. Raises DoesNotFit."""
        self._check()
        self._plan = None
        if self._stream is not None:
            self._stream.resize(self.plan.pinned_bytes, self.plan.ring_bytes)

    @property
    def error(self) -> str:
        """Why the last run got no weights; empty where it did."""
        return "" if self._stream is None else self._stream.error

    def figures(self) -> dict[str, int]:
        """What was read so far (edgert_stream_stats of stream.h); nothing before the first run."""
        return {} if self._stream is None else self._stream.figures()

    def close(self) -> None:
        """Give the memory back."""
        if self._stream is not None:
            self._stream.close()

    def report(self) -> dict[str, Any]:
        """The plan, what was read, and how long runs waited for it, as plain data."""
        return {"plan": asdict(self.plan), **self.figures()}

    def _made(self) -> Plan:
        return self._planned(plan_for)

    def _check(self) -> None:
        self._planned(check_for)

    def _planned(self, make: Callable[..., Any]) -> Any:
        taken = memory()
        process = self._process or (taken["rss_anon"] or 0) + (taken["rss_file"] or 0)
        try:
            return make(self._artifact.spec, self._budget, process, self._reserved, self._profile)
        except DoesNotFit as error:
            raise DoesNotFit(f"{self._artifact.path}: {error}", **error.details) from None

    def _opened(self) -> Stream:
        artifact, made = self._artifact, self.plan
        coding, start = artifact.spec.coding, artifact.weights_offset
        settings = {
            "start": 0 if coding else start, "pinned_bytes": made.pinned_bytes, "ring_bytes": made.ring_bytes,
            "block_bytes": made.block_bytes, "threads": made.depth, "timeout_ms": TIMEOUT_MS,
            "gap_bytes": made.gap_bytes,
        }  # fmt: skip
        digests = [digest for _, _, digest in artifact.spec.segments]
        source = None if self._source is None else self._source(os.fspath(artifact.path))
        if coding:
            source = coded_source(source or opened(artifact.path), coding, start)
        assert artifact.spec.stream is not None
        return Stream(artifact.path, artifact.spec.stream, digests, settings, source)


def plan_for(
    spec: Manifest, budget: int, process: int, reserved: Mapping[str, int], profile: FlashProfile | None = None
) -> Plan:
    """The plan for an artifact that can be streamed, in a process that holds `process` bytes already. reserved: what
    else there will be, by name. Raises DoesNotFit."""
    assert spec.stream is not None
    profile = profile or usual()
    if spec.coding:
        faster = {at: spec.coding.gain * rate for at, rate in profile.sequential.items()}
        profile = replace(profile, sequential=faster)
    fixed = _fixed(spec, budget, process, reserved)
    return plan(budget, fixed, spec.stream, profile, None, _reader_bytes(spec))


def check_for(spec: Manifest, budget: int, process: int, reserved: Mapping[str, int], _: object = None) -> None:
    """Raises DoesNotFit where `plan_for` would, in less time."""
    assert spec.stream is not None
    refuse(budget, _fixed(spec, budget, process, reserved), spec.stream, _reader_bytes(spec))


def _reader_bytes(spec: Manifest) -> int:
    return READER_BYTES + (SCRATCH if spec.coding else 0)


def _fixed(spec: Manifest, budget: int, process: int, reserved: Mapping[str, int]) -> dict[str, int]:
    buffers = sum(t.bytes for t in (*spec.inputs, *spec.outputs) if t.name not in spec.state)
    fixed = {"process": process, "margin": MARGIN + budget // 100, "arena": spec.arena_bytes}
    coding = {"decoding": 2 * SCRATCH} if spec.coding else {}  # of rows: a part as it is read, and decoded
    return {**fixed, "inputs and outputs": buffers, **coding, **reserved}


def plan_text(made: Plan) -> str:
    """A plan for people."""
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in made.parts.items())
    text = f"budget {format_bytes(made.budget)}: {parts}"
    if not made.streams:
        return f"{text}; all weights stay in memory"
    return (
        f"{text}; {format_bytes(made.read_bytes)} read in each pass, {made.depth} at once in blocks of "
        f"{format_bytes(made.block_bytes)}; predicted for flash {made.profile}: {1 / made.run_seconds:.1f} passes/s "
        f"(computing alone {1 / made.compute_seconds:.1f}), the first after {made.first_seconds:.2f} s"
    )


def streamed_text(report: Mapping[str, Any]) -> str:
    """What `Budget.report` gave, in a line for people."""
    made = report["plan"]
    text = f"budget {format_bytes(made['budget'])}"
    if "read_bytes" not in report:
        return text
    text += f": {format_bytes(report['pinned_bytes'])} of weights in memory, ring {format_bytes(report['ring_bytes'])}"
    text += f", {format_bytes(report['read_bytes'])} read, {report['wait_ns'] / 1e9:.2f} s waited"
    if report["chosen_rows"]:
        there = 1 - report["chosen_missing"] / report["chosen_rows"]
        text += f"; of {report['chosen_rows']} neurons or experts chosen, {100 * there:.1f} % were in memory"
    if report["predicted_ns"]:
        text += f"; predicted from the last pass: {1e9 / report['predicted_ns']:.1f} passes/s"
    if not made["read_bytes"]:
        return text
    return f"{text}; planned for flash {made['profile']}: {1 / made['run_seconds']:.1f}"
