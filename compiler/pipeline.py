"""The compiler's phases, in order. Gives back plain data; edgert/build.py makes an artifact of it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import tvm

from compiler.arrange import arrange
from compiler.codegen.c_names import identifier
from compiler.codegen.entry import ENTRY, entry_object
from compiler.codegen.link import link_shared
from compiler.codegen.lower import compile_object, symbol
from compiler.codegen.static_entry import static_entry_object
from compiler.debug import Dump
from compiler.described import make_manifest, target_manifest, variant_manifest
from compiler.device import device_entry, kernel_sources
from compiler.device import notes as device_notes
from compiler.external import load_ahead
from compiler.frontend import load
from compiler.frontend.facts import Facts, raise_if_unsupported
from compiler.fusion import fuse
from compiler.lowering import lower_graph
from compiler.ops.registry import Unsupported
from compiler.passes import relu_rows, run_passes
from compiler.placement import Placement, place, place_weights, weight_chunks
from compiler.program import Program
from compiler.repeats import Shared
from compiler.several import share_equal, sharing_notes
from compiler.split import fit
from compiler.streaming import lay_weights, stream_entry
from targets.errors import UnsupportedModel
from targets.gpu import Gpu
from targets.microcontroller import Microcontroller
from targets.target import Target

Progress = Callable[[str, int, int], None]  # phase, done, of
Budget = int | Callable[[Program], int]  # bytes of arena, perhaps by what the program has beside it


@dataclass
class Compiled:
    """A compiled model as plain data: what goes into the artifact."""

    target: Target
    manifest: dict[str, Any]
    code: bytes  # of a microcontroller: nothing, `objects` are linked with what they run on
    weights: Callable[[], Iterator[bytes | memoryview]]
    program: Program
    placement: Placement
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # per phase
    objects: dict[str, bytes] = field(default_factory=dict)  # of a microcontroller, by file name
    members: dict[str, bytes] = field(default_factory=dict)  # further members of the artifact


class Clock:
    """Seconds of each phase, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def phase(self, label: str) -> None:
        """Ends the phase called `label`."""
        now = time.perf_counter()
        self.seconds[label], self._last = round(now - self._last, 4), now


def compile_model(
    model: Path,
    target: Target,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    dims: Mapping[str, tuple[int, int]] | None = None,
    name: str | None = None,
    tiles: Callable[..., dict] | None = None,
    debug_dump: Path | None = None,
    progress: Progress | None = None,
    ram: Budget | None = None,
    graph: ir.Model | None = None,
    variants: Mapping[str, ir.Model] | None = None,
    external: bool = False,
    by_neuron: bool = False,
    others: Sequence[tuple[Target, Callable[..., dict] | None]] = (),
) -> Compiled:
    """Compiles an ONNX file for `target`; or `graph`, which was made of the file `model`.

    variants: further graphs by name, of the same inputs' dimensions, which share weights and kernels: the manifest has
    them as `programs`. others: further targets, each with its `tiles`, whose code goes in as well, as `variants` of the
    manifest in this order.

    shapes: fixed shapes of inputs. dims: bounds (least, most) of symbolic dimensions by name. ram: bytes that the arena
    may take. external: a microcontroller's weights are in a flash that is read by blocks. by_neuron: products behind
    a ReLU read no rows of neurons that are zero. Raises EdgertError and its
    kinds for a broken model, wrong shapes, operators that are not supported (all of them in one report), or a budget
    that cannot be met.
    """
    clock, dump = Clock(), Dump(debug_dump)
    # 1. front end: read, fix shapes, infer every shape and type, fold what is constant
    graph, facts = load(graph or model, dict(shapes or {}), dict(dims or {}))
    raise_if_unsupported(facts.problems)
    dump.graph("1-frontend", graph, facts)
    clock.phase("frontend")
    opset = graph.opset_imports.get("", 1)
    # 2. to 5.
    shared = Shared()
    program, placement = plan_graph(graph, facts, target, tiles, dump, clock, ram, shared, by_neuron)
    bare = isinstance(target, Microcontroller)
    source_only = isinstance(target, Gpu) and target.source_only
    if (bare or source_only) and program.dims:
        named = ", ".join(v.name for v in program.dims)
        raise UnsupportedModel(f"{target.name} takes static shapes, and {named} is open: fix it with --shape")
    if external:
        placement = load_ahead(program)
    label = name or Path(model).stem
    entry = f"{identifier(label)}_run" if bare else ENTRY
    planned = {entry: (program, placement)}
    for variant, other in (variants or {}).items():
        known, more = load(other, dict(shapes or {}), dict(dims or {}))
        raise_if_unsupported(more.problems)
        planned[f"{ENTRY}_{variant}"] = plan_graph(known, more, target, tiles, Dump(None), clock, ram, shared)
    programs = {entry: made for entry, (made, _) in planned.items()}
    several: dict[str, tuple[Target, Program, Placement]] = {}
    for further, choice in others:
        known, known_facts = load(graph or model, dict(shapes or {}), dict(dims or {}))
        several[further.name] = (further, *plan_graph(known, known_facts, further, choice, Dump(None), clock, ram))
    every = [*programs.values(), *(made for _, made, _ in several.values())]
    if several:
        share_equal(every)
        facts.notes += sharing_notes(every, [target.name, *several])
    layout = None if bare or isinstance(target, Gpu) else lay_weights(every, target)
    weights_bytes = place_weights(*every) if layout is None else layout.total
    placement = replace(placement, weights_bytes=weights_bytes)
    # 6. code: every kernel to an object (cached by content), the entries that call them, one shared object
    members = kernel_sources(programs.values(), target) if isinstance(target, Gpu) else {}
    objects = {} if source_only else build_objects(programs, target, progress)
    clock.phase("kernels")
    code = b"" if bare or source_only else link_shared(objects, target, *programs)
    for key, (further, made, _) in several.items():
        members[f"code.{key}"] = link_shared(build_objects({ENTRY: made}, further, progress), further, ENTRY)
    clock.phase("link")
    manifest = make_manifest(program, placement, target, label) | {"entry": entry}
    if variants:
        manifest["programs"] = {
            variant: variant_manifest(*planned[f"{ENTRY}_{variant}"], target, f"{ENTRY}_{variant}")
            for variant in variants
        }
    if several:
        manifest["variants"] = {key: target_manifest(key, *made) for key, made in several.items()}
    if layout is not None:
        manifest["segments"] = [
            {"offset": s.offset, "size": s.size, "residency": "resident" if s.resident else "streamed"}
            for s in layout.segments
        ]
        for entry, made in programs.items():
            part = manifest if entry == ENTRY else manifest["programs"][entry.removeprefix(f"{ENTRY}_")]
            part["stream"] = stream_entry(made, every, layout)
        for key, (_, made, _) in several.items():
            manifest["variants"][key]["stream"] = stream_entry(made, every, layout)
    if isinstance(target, Gpu):
        manifest["device"] = device_entry(program, target)
        facts.notes += device_notes(program)
    if external:
        manifest["weights_in"] = "external"
    if program.split is not None:
        manifest["split"] = program.split
    manifest["source"] = {"opset": opset, "sha256": _sha256(Path(model))}
    return Compiled(
        target, manifest, code, lambda: weight_chunks(*every), program, placement, list(facts.notes),
        clock.seconds, objects if bare else {}, members,
    )  # fmt: skip


def plan_graph(
    graph: ir.Model, facts: Facts, target: Target, tiles: Callable[..., dict] | None = None, dump: Dump | None = None,
    clock: Clock | None = None, ram: Budget | None = None, shared: Shared | None = None,
    by_neuron: bool = False,
) -> tuple[Program, Placement]:  # fmt: skip
    """A graph that passed inference to a program with every buffer in its place; no code is made yet.

    ram: bytes that the arena may take; operators are split for it where whole ones take more. Raises UnsupportedModel
    for a form that inference let pass and no kernel takes, DoesNotFit where no split meets `ram`.
    """
    clock, dump = clock or Clock(), dump or Dump(None)
    # 2. graph passes: simplify, recognise patterns, choose layouts (compiler/passes has the list)
    graph, facts = run_passes(graph, facts, target, dump, [relu_rows.run] if by_neuron else [])
    clock.phase("passes")
    # 3. fuse operators into kernels, and give each its template or a loop nest
    program = lower(graph, facts, target, tiles, shared)
    clock.phase("lower")
    # 4. memory: the order of least peak, results over operands, life times, one arena, verified
    placement = arranged(program)
    clock.phase("memory")
    if ram is not None:
        # 5. for a budget: runs of operators in bands of rows
        def banded(model: ir.Model, known: Facts) -> tuple[Program, Placement]:
            made = lower(model, known, target, tiles)
            return made, arranged(made)

        bytes_ = ram if isinstance(ram, int) else ram(program)
        fitted = fit(graph, facts, target, banded, (program, placement), bytes_)
        program, placement = fitted.program, fitted.placement
        program.split = fitted.report
        facts.notes += fitted.notes
        clock.phase("split")
    dump.program("4-plan", program, placement)
    return program, placement


def lower(
    graph: ir.Model, facts: Facts, target: Target, tiles: Callable[..., dict] | None = None,
    shared: Shared | None = None,
) -> Program:  # fmt: skip
    """A graph that went through the passes as kernel calls, in the graph's order. Raises UnsupportedModel."""
    nodes = [n for n in graph.graph if any(o.name not in facts.constants for o in n.outputs)]
    groups = fuse(nodes, facts, {str(v.name) for v in graph.graph.outputs})
    try:
        program = lower_graph(graph, facts, target, groups, tiles, shared)
    except Unsupported as error:
        raise UnsupportedModel(f"no kernel takes this form: {error.reason}") from None
    if isinstance(target, Microcontroller) and not program.dims:
        program.take_inputs_in()  # there is no room for memory that is read once
    return program


def arranged(program: Program) -> Placement:
    """The program's steps in the order of least memory, its buffers shared where they may be, and placed."""
    arrange(program)
    return place(program)


def build_objects(
    programs: Mapping[str, Program], target: Target, progress: Progress | None = None
) -> dict[str, bytes]:  # fmt: skip
    """Objects of every distinct kernel and of each program's entry, by whose names they come; on all cores."""
    steps = (step for program in programs.values() for step in program.steps if not step.stage.workgroup)
    owners = {symbol(step.stage, target): step for step in steps}
    done: dict[str, bytes] = {}

    def make(name: str) -> bytes:
        try:
            return compile_object(owners[name].stage, target)
        except tvm.error.InternalError as error:
            step, reason = owners[name], str(error).strip().splitlines()[-1]
            raise UnsupportedModel(f"{step.op} {step.name}: the code generator refuses this form ({reason})") from None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, data in zip(owners, pool.map(make, owners), strict=True):
            done[name] = data
            if progress:
                progress("kernels", len(done), len(owners))
    made = static_entry_object if isinstance(target, Microcontroller) else entry_object
    return done | {f"entry.{entry}": made(program, target, entry) for entry, program in programs.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
