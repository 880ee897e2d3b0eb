"""Whether an artifact runs on this machine: its architecture, its processor's features, its memory."""

from __future__ import annotations

from edgert import cpu
from edgert.artifact import Artifact
from edgert.errors import DoesNotFit, EdgertError
from edgert.native.library import runtime
from edgert.units import format_bytes
from targets import host_features


def usable_features(artifact: Artifact) -> frozenset[str]:
    """This processor's features, without those that the system does not permit."""
    amx = {f for _, features in artifact.spec.variants for f in features if f.startswith("amx_")} & host_features()
    return host_features() - amx if amx and runtime().edgert_rt_permit_amx() else host_features()


def check_machine(artifact: Artifact) -> None:
    """Raise EdgertError unless this machine's architecture and processor run the artifact's code."""
    spec, ours = artifact.spec, cpu.architecture()
    wanted = cpu.triple_architecture(spec.triple)
    if wanted != ours:
        raise EdgertError(
            f"{artifact.path}: compiled for {wanted}, this machine is {ours}: compile with another --target"
        )
    missing = [feature for feature in spec.features if feature not in host_features()]
    if missing:
        lacks = ", ".join(missing)
        raise EdgertError(f"{artifact.path}: needs {lacks}, which this processor lacks: compile with another --target")


def check_memory(artifact: Artifact, budget: int | None) -> None:
    """Raise DoesNotFit when what a session needs exceeds `budget`, or the memory now free when there is none.

    Without a budget the weights do not count: they are pages of a file, which the kernel can drop and read again."""
    spec = artifact.spec
    buffers = sum(tensor.bytes for tensor in (*spec.inputs, *spec.outputs) if tensor.name not in spec.state)
    parts = {"arena": spec.arena_bytes, "inputs and outputs": buffers}
    if budget is not None:
        parts["weights"] = spec.resident_bytes
        have, whose = budget, "the budget is"
    else:
        have, whose = cpu.available_memory() or (1 << 62), "free are"
    need = sum(parts.values())
    if need > have:
        listed = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
        raise DoesNotFit(f"{artifact.path}: needs {need} bytes ({listed}), {whose} {have} ({format_bytes(have)})")
