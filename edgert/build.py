"""The front door to the compiler: a model file in, an artifact on disk."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgert import __version__
from edgert.errors import UnsupportedModel, UsageError
from edgert.halves import halves_text
from edgert.placing import Placing
from edgert.plans import plans
from edgert.sparse import Sparsity

if TYPE_CHECKING:
    from edgert.quantized import Calibration
    from quant.io import Scale

FACTS_BYTES = 1 << 16  # more than that beside a model is not a description of it


@dataclass(frozen=True)
class CompileReport:
    """What a compile made. Sizes in bytes, times in seconds."""

    path: Path
    manifest: dict[str, Any]
    file_bytes: int
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)


def compile(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    target: str = "host",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    dims: Mapping[str, tuple[int, int]] | None = None,
    golden: bool = True,
    emit: str = "edge",
    tune: int = 0,
    debug_dump: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    quant: str | None = None,
    calibrate: Calibration | None = None,
    ram: int | None = None,
    context: int | None = None,
    dram: int | None = None,
    placing: Placing | None = None,
    code: str = "none",
    io: str = "float",
    scales: Mapping[str, Scale] | None = None,
    sparsity: Sparsity | None = None,
    kv: str | None = None,
) -> CompileReport:
    """Compiles the model file (or folder) `model` into `out`.

    target: a name of `edgert targets`; several, as in `aarch64+dotprod+i8mm`, give one artifact with code for each.
    shapes: fixed input shapes by name. dims: (least, most) of symbolic dimensions by name. golden: put inputs and ONNX
    Runtime's answers in, for `edgert verify`. emit: `edge` (an artifact) or `exe` (a program that needs nothing);
    for microcontrollers see edgert/mcu/emit.py.
    quant: a scheme of `quant.schemes.SCHEMES` to quantize with first (`auto`: within its default bound); calibrate: its
    samples, an .npz file, a folder with one file a sample, or an iterable of {input name: array}. Of a .gguf file a
    scheme of `compiler.gguf.requantize.SCHEMES`, for weights of more bits.
    ram: bytes that the arena may take; operators are split into bands of rows where it takes that (manifest entry
    `split`). context: for a language model (.gguf, or .onnx with past key
    values and its tokenizer beside it), the most tokens of a text.
    dram: bytes for the whole process that will run it, which is its budget then unless it is told another; recorded in
    the manifest, with plans in the report's notes.
    kv: of a language model that becomes a program, how its cache keeps keys and values (`edgert.llm.build.CACHES`).
    code: `auto` codes weights without loss where that makes reading them faster from the flash that is planned for.
    placing: of a microcontroller, its board and memory, of which `ram` is then all that the model takes.
    io: `quantized` where inputs and outputs that the model quantizes are to be handed over as integers (the manifest
    has their `scale` and `zero_point`), else `float`. scales: of integer inputs and
    outputs, for the manifest (compiling with `io` finds them itself).
    sparsity: of a language model (.gguf), which neurons it may leave out; of other models, with a share of 0, the rows
    of neurons that a ReLU makes zero are skipped, which is exact.
    Raises EdgertError (and UsageError, UnsupportedModel, DoesNotFit).
    """
    try:
        from compiler import golden as golden_data
        from compiler.mixed import mixed
        from compiler.pipeline import compile_model
        from compiler.tune import Records, Tuner
        from edgert.coding import coder_of, coding_text
        from edgert.emit import Output, emitter_of
        from edgert.llm.build import FIRST
        from edgert.llm.build_exported import model_in
        from edgert.llm.found import compiler_of
        from edgert.llm.text_model import LIKELIEST
        from edgert.mcu.budget import arena_budget
        from edgert.mcu.tiles import tiles_of
        from edgert.quantized import quantized_copy
        from quant.io import quantized_io
        from targets.gpu import Gpu
        from targets.microcontroller import Microcontroller
        from targets.several import get_targets
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in ("edgert", "compiler", "targets"):
            raise  # a part of this project: a bug, not a missing extra
        raise UsageError(f"compiling needs the compiler: pip install 'edgert[compiler]' ({error})") from None
    model, (chosen, *others) = model_in(Path(model)), get_targets(target)
    placing = replace(placing or Placing(), ram=ram)
    emitter, coder = emitter_of(emit, chosen, placing), coder_of(code, emit)
    if others and emit != "edge":
        raise UsageError(f"--emit {emit} takes code for one target, and {target} are {1 + len(others)}")
    if io not in ("float", "quantized"):
        raise UsageError(f"io is {io!r}: there are float and quantized")
    if quant is None and calibrate is not None:
        raise UsageError("calibration data is for quantization: give --quant SCHEME as well")
    requantize = quant if Path(model).suffix.lower() == ".gguf" else None
    if requantize is not None and calibrate is not None:
        raise UsageError("weights of .gguf files are quantized without samples: leave --calibrate out")
    if sparsity is not None and (quant is not None or io == "quantized"):
        raise UsageError("--sparsity does not go with --quant or --io quantized")
    if quant is not None and requantize is None:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="edgert-quant-") as folder:
            source, note = quantized_copy(model, Path(folder), quant, calibrate, progress)
            seconds = round(time.perf_counter() - started, 4)
            report = compile(
                source, out, target, shapes, dims, golden, emit, tune, debug_dump, progress, ram=ram, dram=dram,
                placing=placing, code=code, io=io, context=context,
            )  # fmt: skip
        spent = {"quantize": seconds, **report.seconds, "total": report.seconds["total"] + seconds}
        return replace(report, seconds=spent, notes=[note, *report.notes])
    if io == "quantized":
        with tempfile.TemporaryDirectory(prefix="edgert-io-") as folder:
            source = Path(folder) / Path(model).name
            found = quantized_io(Path(model), source)
            return compile(
                source, out, target, shapes, dims, golden, emit, tune, debug_dump, progress, ram=ram, dram=dram,
                placing=placing, code=code, context=context, scales=found,
            )  # fmt: skip
    path, started = Path(out), time.perf_counter()
    dump = Path(debug_dump) if debug_dump else None
    tiles: Callable[..., dict[str, int]] = Tuner(chosen, tune, Records(chosen), progress)
    if isinstance(chosen, Microcontroller):
        tiles = tiles_of(chosen, placing.optimize, tune)
    more: dict[str, bytes] = {}
    language = compiler_of(Path(model), context, shape=shapes, dim=dims, ram=ram)
    if requantize is not None and language is not None:
        language = partial(language, requantize=requantize)
    if sparsity is not None and language is not None and Path(model).suffix.lower() == ".gguf":
        language = partial(language, sparsity=sparsity)
    elif sparsity is not None and (language is not None or sparsity.share):
        raise UsageError("--sparsity is for language models in .gguf; with others --sparsity 0 skips a ReLU's zeros")
    if kv is not None and (language is None or emit == "edge"):
        raise UsageError("--kv is for language models with --emit exe: an artifact has all caches, the user chooses")
    if language is not None:
        if others:
            raise UnsupportedModel(f"language models have code for one target yet, and {target} are {1 + len(others)}")
        if isinstance(chosen, Gpu) or chosen.half:
            raise UnsupportedModel(
                f"{chosen.name} has no kernels for language models yet: compile for a CPU in float32"
            )
        caches = {} if emit == "edge" else {"caches": () if kv in (None, FIRST) else (kv,)}
        done, more = language(chosen, context, tiles, dump, progress, golden=golden and emit == "edge", **caches)
        if kv not in (None, FIRST):
            if kv not in done.manifest.get("programs", {}):
                raise UnsupportedModel(f"{Path(model).name}: no cache of {kv} for heads of its size: leave --kv out")
            done.manifest |= done.manifest.pop("programs")[kv]
        elif emit != "edge":  # a program only ever takes the likeliest token
            done.manifest |= done.manifest.pop("programs", {}).get(LIKELIEST, {})
        golden = False
    else:
        made = partial(
            compile_model, Path(model), shapes=shapes, dims=dims, tiles=tiles, debug_dump=dump, progress=progress,
            ram=arena_budget(chosen, placing), external=placing.weights_in == "external",
            by_neuron=sparsity is not None, others=[(t, Tuner(t, tune, Records(t), progress)) for t in others],
        )  # fmt: skip
        if isinstance(chosen, Gpu) and chosen.half:
            chosen, done = mixed(Path(model), chosen, made)
            if "halves" in done.manifest:
                done.notes.append(f"float16: {halves_text(done.manifest['halves'])}")
        else:
            done = made(chosen)
    done.manifest["producer"] = {"edgert": __version__, **done.manifest["producer"]}
    if facts := _facts_beside(Path(model)):
        done.manifest["facts"] = facts
    for port in [*done.manifest["inputs"], *done.manifest["outputs"]]:
        if scales and port["name"] in scales:
            port.update(asdict(scales[port["name"]]))
    if dram is not None:
        done.manifest["dram"] = dram
        done.notes += plans(done.manifest, done.code, dram)
    feeds: dict[str, np.ndarray] = {}
    answers: dict[str, np.ndarray] = {}
    if golden:
        started_golden = time.perf_counter()
        half = (chosen.half, False, chosen.whole) if isinstance(chosen, Gpu) else (chosen.half, bool(chosen.half))
        feeds, answers, tolerance = golden_data.make(Path(model), done.manifest, done.notes, *half)
        done.seconds["golden"] = round(time.perf_counter() - started_golden, 4)
        done.manifest["golden"] = {"tolerance": tolerance}
    manifest = emitter(Output(done, path, feeds, answers, {**done.members, **more}, placing, coder))
    if "coding" in manifest:
        done.notes.append(coding_text(manifest))
    done.seconds["total"] = round(time.perf_counter() - started, 4)
    return CompileReport(path, manifest, _size(path), done.seconds, done.notes)


def _size(path: Path) -> int:
    """Bytes of a file, or of all in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _facts_beside(model: Path) -> dict[str, Any] | None:
    """What `edgert pull` wrote about the model (labels, how to prepare inputs), which then travels in the artifact."""
    try:
        text = model.with_suffix(".json").read_text(encoding="utf-8")
        found = json.loads(text) if len(text) <= FACTS_BYTES else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "name" in found else None
