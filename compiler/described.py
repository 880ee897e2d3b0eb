"""What an artifact says of a planned program: its manifest, and the parts that differ from program to program."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from compiler.codegen.entry import ENTRY
from compiler.frontend.dims import largest
from compiler.placement import Placement
from compiler.program import Port, Program
from targets.kernels.tensor import Index
from targets.target import Target


def variant_manifest(program: Program, placement: Placement, target: Target, entry: str) -> dict[str, Any]:
    """What differs from program to program of one artifact."""
    whole = make_manifest(program, placement, target, "") | {"entry": entry}
    same = ("name", "producer", "target", "weights_bytes")
    return {key: value for key, value in whole.items() if key not in same}


def target_manifest(name: str, target: Target, program: Program, placement: Placement) -> dict[str, Any]:
    """What differs from target to target of one artifact."""
    whole = variant_manifest(program, placement, target, ENTRY) | {
        "code": f"code.{name}",
        "target": _target_entry(target),
    }
    return whole if program.split is None else {**whole, "split": program.split}


def _target_entry(target: Target) -> dict[str, Any]:
    return {"name": target.name, "triple": target.triple, "features": list(target.features)}


def make_manifest(program: Program, placement: Placement, target: Target, name: str) -> dict[str, Any]:
    """What the artifact says of itself; docs/artifact.md has the meaning of each entry."""

    def dim(d: Index) -> int | dict[str, int]:
        return d if isinstance(d, int) else {"slot": program.slot(d), "max": largest(d)}

    places = {b.name: {"offset": b.offset} for b in program.inside.values() if b.offset >= 0}

    def port(p: Port) -> dict[str, Any]:
        return {"name": p.name, "dtype": p.dtype, "shape": [dim(d) for d in p.shape], "bytes": p.bytes}

    return {
        "name": name,
        "producer": {"tvm": version("apache-tvm"), "llvmlite": version("llvmlite")},
        "target": _target_entry(target),
        "dims": [{"name": v.name, "min": program.bounds[v.name][0], "max": program.bounds[v.name][1]}
                 for v in program.dims[: program.input_dims]],
        "inputs": [port(p) | places.get(p.name, {}) for p in program.inputs],
        "outputs": [port(p) for p in program.outputs],
        "dim_slots": len(program.dims) + len(program.derived),
        "arena_bytes": placement.arena_bytes,
        "weights_bytes": placement.weights_bytes,
        "plan": [{"name": b.name, "offset": b.offset, "size": b.bytes, "first": first, "last": last}
                 for b, (first, last) in zip(placement.buffers, placement.lives, strict=True)],
        "planner": {"name": placement.planner, "lower_bound": placement.lower_bound},
        "entry": ENTRY,
        "steps": [{"name": s.name, "op": s.op, "kernel": s.stage.kernel, "nodes": s.nodes, "macs": s.macs}
                  for s in program.steps],
    }  # fmt: skip
