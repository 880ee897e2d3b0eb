"""What is in a model or an artifact: operators, sizes, memory over time, and what would not compile and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgert.artifact import Artifact
from edgert.atomic import write_atomic
from edgert.cpu import architecture, triple_architecture
from edgert.errors import EdgertError, UsageError
from edgert.halves import halves_text
from edgert.interface.bench import total_macs
from edgert.interface.inputs import describe
from edgert.interface.inspect_gguf import inspect_gguf
from edgert.interface.memory import memory_of, memory_text, split_of, split_text
from edgert.interface.model import is_gguf, is_model
from edgert.interface.plot import memory_html, memory_svg
from edgert.interface.plot_panel import Panel
from edgert.machine import usable_features
from edgert.plans import plan_lines
from edgert.units import format_bytes

if TYPE_CHECKING:
    import onnx_ir as ir

    from compiler.frontend import Facts
    from targets.target import Target


OPEN_DIMS = (1, 512)  # what a dimension is looked at with when nobody said its bounds; the report says so


class Inspection(NamedTuple):
    """What was found, as plain data for --json and as text for people; whether it would compile."""

    data: dict[str, Any]
    text: str
    supported: bool


def inspect(
    path: str,
    target: str = "host",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    dims: Mapping[str, tuple[int, int]] | None = None,
    plot: str | None = None,
    ram: int | None = None,
    dram: int | None = None,
) -> Inspection:
    """Look into the artifact or model at `path`; `plot` is an SVG or HTML file to write the arena over time to.

    ram: bytes that a model's arena may take, as for `edgert compile`. Raises DoesNotFit where that cannot be. dram:
    bytes of a process that runs the artifact: the report says what of its weights would be streamed.

    Raises UsageError for options that do not fit what it is, and EdgertError where it cannot be read.
    """
    kind = Path(plot).suffix.lower() if plot else ""
    if plot and kind not in (".svg", ".html"):
        raise UsageError(f"--plot {plot}: give a name that ends in .svg or .html")
    if is_gguf(path):
        found = _gguf(path, shapes or dims or ram or plot)
    elif is_model(path):
        found = _model(path, target, shapes or {}, dims or {}, ram)
    else:
        found = _artifact(path, shapes or dims or ram, dram)
    if dram is not None and (is_gguf(path) or is_model(path)):
        raise UsageError("--dram is for artifacts: give it to `edgert compile` too, which plans for it")
    if not plot:
        return found
    if "memory" not in found.data:
        raise UsageError(f"--plot {plot}: there is no memory plan, as {path} would not compile")
    title = f"{found.data['name']}: arena over time"
    svg = memory_svg(title, _panels(found.data), (found.data.get("split") or {}).get("ram"))
    write_atomic(plot, (memory_html(title, svg) if kind == ".html" else svg).encode())
    return found


def _gguf(path: str, options: object) -> Inspection:
    if options:
        raise UsageError(f"{path} is a language model: --shape, --dim, --ram and --plot are not for it")
    data, text = inspect_gguf(path)
    return Inspection(data, text, True)


def _artifact(path: str, fixed: object, dram: int | None = None) -> Inspection:
    if fixed:
        raise UsageError(
            f"{path} is an artifact, its shapes and its arena are fixed: --shape, --dim and --ram are for models"
        )
    artifact = Artifact.open(path)
    try:
        manifest, file_bytes = artifact.manifest, Path(path).stat().st_size
        variants = _variants(artifact)
    finally:
        artifact.close()
    operators = dict(Counter(step.get("op", "?") for step in manifest["steps"]))
    known = ("name", "producer", "target", "dims", "inputs", "outputs", "weights_bytes", "steps", "decoder")
    data: dict[str, Any] = {key: manifest[key] for key in known if key in manifest}
    data |= {"file_bytes": file_bytes, "operators": operators}
    try:
        data |= _memory(manifest)
    except ValueError as error:
        raise EdgertError(f"{path} is damaged: {error}; compile the model again") from None
    data["macs"] = total_macs(manifest)
    lines = [f"{data['name']}: artifact for {manifest['target']['name']} ({manifest['target']['triple']})"]
    state = [entry for entry in manifest["inputs"] if entry["name"] in manifest.get("state", ())]
    for title, key in (("input", "inputs"), ("output", "outputs")):
        shown = [entry for entry in manifest[key] if entry not in state]
        lines += [f"  {title:<7} {entry['name']}: {describe(entry)}" for entry in shown]
    if state:
        lines.append(f"  state   {state[0]['name']}: {describe(state[0])}, and {len(state) - 1} more")
    lines += [f"  dim     {dim['name']}: {dim['min']}..{dim['max']}" for dim in manifest["dims"]]
    lines.append(f"  file    {format_bytes(file_bytes)}, of it weights {format_bytes(manifest['weights_bytes'])}")
    if isinstance(halves := manifest.get("halves"), dict):
        data["halves"] = halves
        lines.append(f"  float16 {halves_text(halves)}")
    if variants:
        data["variants"] = variants
        lines += [_variant_line(name, one) for name, one in data["variants"].items()]
    counts = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    lines.append(f"  {len(manifest['steps'])} steps: " + ", ".join(f"{count} {op}" for op, count in counts))
    lines.append(f"  {data['macs'] / 1e6:.1f} M multiply-accumulates a run")
    if dram is not None:
        data["dram"] = {"budget": dram, "plans": plan_lines(artifact.spec, manifest, dram)}
        lines += [f"  {line}" for line in data["dram"]["plans"]]
    return Inspection(data, "\n".join([*lines, *_memory_lines(manifest, data)]), True)


def _variants(artifact: Artifact) -> dict[str, dict[str, Any]]:
    """Code for several processors by target's name, the least demanding first: the features it needs, its bytes, its
    arena's; `runs` where this machine takes it. Empty where there is code for one alone."""
    if not artifact.spec.variants:
        return {}
    taken, first = copy(artifact), artifact.manifest["target"]
    taken.choose(usable_features(artifact))
    here = taken.manifest["target"]["name"] if triple_architecture(first["triple"]) == architecture() else ""
    found = {}
    for name, features in ((first["name"], frozenset(first["features"])), *reversed(artifact.spec.variants)):
        one = copy(artifact)
        one.choose(features)
        found[name] = {
            "features": sorted(features), "code_bytes": len(one.code), "arena_bytes": one.spec.arena_bytes,
            "steps": len(one.spec.steps), "runs": name == here,
        }  # fmt: skip
    return found


def _variant_line(name: str, one: Mapping[str, Any]) -> str:
    sizes = f"code {format_bytes(one['code_bytes'])}, arena {format_bytes(one['arena_bytes'])}"
    return f"  for     {name} ({' '.join(one['features'])}): {sizes}{', which this machine runs' * one['runs']}"


def _model(
    path: str, target: str, shapes: Mapping[str, tuple[int, ...]], dims: Mapping[str, tuple[int, int]], ram: int | None
) -> Inspection:
    from compiler.frontend import load, report
    from edgert.llm.build_exported import exported_with_tokenizer, graphs_of
    from targets import get_target

    chosen = get_target(target)
    language = None if shapes or dims or ram else exported_with_tokenizer(Path(path))
    if language is not None:  # as it would be compiled
        graphs, bounds = graphs_of(*language)
        graph, facts = load(next(iter(graphs.values())), {}, bounds)
    else:
        graph, facts = load(Path(path), shapes, dims, open_dims=OPEN_DIMS)
    found = report(graph, facts)
    data: dict[str, Any] = {**found.json(), "name": Path(path).stem}
    lines = [found.text()]
    if found.supported:
        manifest = _plan(graph, facts, chosen, ram)
        data |= {**_memory(manifest), "steps": manifest["steps"]}
        data["macs"] = total_macs(manifest)
        lines.append(f"  {len(manifest['steps'])} kernel calls, {data['macs'] / 1e6:.1f} M multiply-accumulates a run")
        lines += _memory_lines(manifest, data)
    return Inspection(data, "\n".join(lines), found.supported)


def _plan(graph: "ir.Model", facts: "Facts", target: "Target", ram: int | None) -> dict[str, Any]:
    """The manifest the model would get: the compiler's phases up to the memory plan, no code made."""
    from compiler.described import make_manifest
    from compiler.pipeline import plan_graph

    program, placement = plan_graph(graph, facts, target, ram=ram)
    manifest = make_manifest(program, placement, target, graph.graph.name or "model")
    return manifest if program.split is None else {**manifest, "split": program.split}


def _memory(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The arena over time, and what was done for a budget where there was one. Raises ValueError where they are not
    those of the steps."""
    split = split_of(manifest)
    return {"memory": memory_of(manifest), **({"split": split} if split else {})}


def _memory_lines(manifest: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    lines = [memory_text(manifest, data["memory"])]
    return [*lines, split_text(data["split"])] if "split" in data else lines


def _panels(data: Mapping[str, Any]) -> list[Panel]:
    """The plan to draw; where operators were split, that of whole ones above it."""

    def panel(caption: str, memory: Mapping[str, Any], steps: Sequence[str]) -> Panel:
        said = f"{caption}arena {format_bytes(memory['arena_bytes'])}, {len(steps)} steps"
        return Panel(said, memory["arena_bytes"], memory["plan"], steps)

    steps = [step["name"] for step in data["steps"]]
    split = data.get("split", {})
    if "whole" not in split:
        budget = f"budget {format_bytes(split['ram'])}, " if split else ""
        return [panel(budget, data["memory"], steps)]
    cost = f"{split['extra_macs_percent']:.1f} % more multiply-accumulates"
    return [
        panel("before, whole operators: ", split["whole"], split["whole"]["steps"]),
        panel(f"after, split to fit {format_bytes(split['ram'])}, {cost}: ", data["memory"], steps),
    ]
