"""One static executable of a model: the C runtime, the model's code and its weights. Needs ziglang to build it."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgert import cpu, dtypes, elfimage, npy
from edgert import manifest as schema
from edgert.artifact import Artifact
from edgert.artifact_parts import Buffer, complete, write_weights
from edgert.atomic import atomic_file
from edgert.errors import EdgertError, UsageError
from edgert.exe_layout import layout_tables
from edgert.native.build import NATIVE, zig_cc
from edgert.native.build import SOURCES as RUNTIME
from edgert.zipformat import PAGE

SHARED = (  # with the runner that opens artifacts (edgert/native/runner.py)
    "fail.c",
    "options.c",
    "cpu.c",
    "memory.c",
    "weights.c",
    "tensors.c",
    "generated.c",
    "frames.c",
    "golden.c",
    "timing.c",
    "npy.c",
    *RUNTIME,
)
MAIN = ("main.c",)
DECODER_MAIN = ("decode_main.c", "decode_options.c", "decode.c", "guess.c")  # of language models: token ids in and out
TRAILER = struct.Struct("<8sQQ")  # edgert_trailer of model.h


def build(artifact: str | os.PathLike[str], out: str | os.PathLike[str], part: str | None = None) -> Path:
    """Make the program `out` from the artifact at `artifact`, golden inputs and outputs included.

    part: which of the artifact's programs, if not the first (a language model's with another cache).

    Raises UsageError when ziglang is not installed, EdgertError for a damaged artifact or code that is not for Linux on
    x86-64 or AArch64, or when `out` cannot be written."""
    opened = Artifact.open(artifact)
    if part is not None:
        opened.select(part)
    return build_from(opened.manifest, opened.code, opened.weights, out, *opened.golden())


def build_from(
    manifest: Mapping[str, Any],
    code: Buffer,
    weights: Buffer | Iterable[Buffer],
    out: str | os.PathLike[str],
    golden_inputs: Mapping[str, np.ndarray] | None = None,
    golden_outputs: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Make the program `out` from the parts of an artifact (see `edgert.artifact.write`); raises as `build` does.

    `code` is the freestanding shared object. The weights stand at the end of the file, from a page's start, where the
    program maps them; they never pass through the linker, so building takes little memory whatever their size."""
    parts = complete(manifest, {"code": code})
    try:
        spec = schema.parse(parts)
    except ValueError as error:
        raise EdgertError(f"cannot make a program with this manifest: {error}") from None
    machine = cpu.triple_architecture(spec.triple)
    assembler = elfimage.assemble(memoryview(code), "code", spec.entry, machine)
    if spec.entry != "edgert_run":
        assembler += f".globl edgert_run\nedgert_run = {spec.entry}\n"
    with tempfile.TemporaryDirectory(prefix="edgert-") as name:
        folder = Path(name)
        (folder / "code").write_bytes(code)
        source, assembler_golden = _tables(spec, parts, folder, golden_inputs or {}, golden_outputs or {})
        (folder / "model.c").write_text(source, encoding="utf-8")
        (folder / "code.S").write_text(assembler + assembler_golden, encoding="utf-8")
        program = folder / "program"
        _link(folder, program, machine, DECODER_MAIN if "decoder" in parts else MAIN)
        with atomic_file(out, mode=0o777) as file, program.open("rb") as linked:
            shutil.copyfileobj(linked, file)
            start = -(-file.tell() // PAGE) * PAGE
            file.write(bytes(start - file.tell()))
            segments = parts["segments"]
            write_weights(file, [weights] if isinstance(weights, Buffer) else weights, segments, out)
            for segment in segments:
                file.write(bytes.fromhex(segment["sha256"]))
            file.write(TRAILER.pack(b"EDGERTW1", start, spec.weights_bytes))
    return Path(out)


def _link(folder: Path, program: Path, machine: str, main: Sequence[str]) -> None:
    """Compile and link everything in `folder` with the runtime."""
    flags = ["-target", f"{machine}-linux-musl", "-static", "-fno-PIE", "-no-pie", "-std=c11", "-O2", "-s"]
    # Assembler takes .incbin's paths from the include path; the tables' header lies with the runtime's sources.
    if main == DECODER_MAIN:
        flags.append("-DEDGERT_PROGRAM=run_decoder")
    flags += [f"-I{folder}", f"-I{NATIVE}", "-fno-sanitize=undefined", "-Wl,-z,noexecstack"]
    sources = [
        *(str(NATIVE / name) for name in ("own.c", *main, *SHARED)),
        str(folder / "model.c"),
        str(folder / "code.S"),
    ]
    try:
        zig_cc([*flags, "-o", str(program), *map(str, sources)])
    except RuntimeError as error:
        if "No module named ziglang" in str(error):
            raise UsageError("making a program needs ziglang: pip install 'edgert[compiler]'") from None
        raise EdgertError("making the program failed: " + " ".join(str(error).split())[:500]) from None


def _tables(
    spec: schema.Manifest,
    manifest: Mapping[str, Any],
    folder: Path,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> tuple[str, str]:
    """The C source of the model's tables (model.h) and assembler for the recorded arrays they point to."""
    lines, assembler = ["#include <stddef.h>", '#include "model.h"'], ['.section .rodata,"a",@progbits']
    for kind, tensors, arrays in (("in", spec.inputs, inputs), ("out", spec.outputs, outputs)):
        rows = []
        for index, tensor in enumerate(tensors):
            label = f"golden_{kind}_{index}"
            golden = "NULL, NULL"
            if tensor.name in arrays:
                (folder / label).write_bytes(npy.to_bytes(np.ascontiguousarray(arrays[tensor.name]).reshape(
                    np.shape(arrays[tensor.name]))))  # fmt: skip
                assembler += [
                    f".globl {label}, {label}_end",
                    ".balign 64",
                    f'{label}: .incbin "{label}"',
                    f"{label}_end:",
                ]
                lines.append(f"extern const uint8_t {label}[], {label}_end[];")
                golden = f"{label}, {label}_end"
            axes = [(a.slot, a.max) if isinstance(a, schema.Slot) else (-1, a) for a in tensor.shape]
            lines.append(_array("edgert_axis", f"shape_{kind}_{index}", [f"{{{s}, {e}}}" for s, e in axes]))
            bits = dtypes.bits_dtype(tensor.dtype)
            code = bits.kind if tensor.dtype == bits.name else "r"
            words = (
                f"{_c(tensor.name)}, {_c(npy.file_stem(tensor.name))}, {_c(bits.str)}, '{'u' if code == 'b' else code}'"
            )
            numbers = f"{bits.itemsize}, {len(axes)}, shape_{kind}_{index}, {tensor.bytes}"
            rows.append(f"{{{words}, {numbers}, {golden}}}")
        lines.append(_array("edgert_tensor", f"{kind}puts", rows))
    lines.append(_array("edgert_dim", "dims", [f"{{{_c(d.name)}, {d.min}, {d.max}}}" for d in spec.dims]))
    steps = [f"{{{_c(s['name'])}, {_c(str(s.get('op', '')))}}}" for s in spec.steps]
    lines.append(_array("edgert_step", "steps", steps))
    lines.append(_array("char *const", "features", [*map(_c, spec.features), "NULL"]))
    tolerance = float(manifest.get("golden", {}).get("tolerance", 0))
    counts = (len(spec.dims), spec.dim_slots, len(spec.inputs), len(spec.outputs), len(spec.steps))
    sizes = f"{spec.arena_bytes}, {spec.weights_bytes}, {', '.join(map(str, counts))}"
    lines.append(f"const edgert_model edgert_the_model = {{{_c(spec.name)}, features, {sizes},")
    tables, layout = layout_tables(spec.stream, len(spec.segments))
    decoder = manifest.get("decoder", {})
    ends, vocab = decoder.get("ends", []), int(decoder.get("vocab", 0))
    made_for = _c(manifest["target"]["name"])
    lines.append(f"  {tolerance!r}, dims, inputs, outputs, steps, {layout}, ends, {len(ends)}, {made_for}, {vocab}}};")
    lines[-2:-2] = [tables, _array("int64_t", "ends", list(map(str, ends)))]
    return "\n".join(lines) + "\n", "\n".join(assembler) + "\n"


def _array(kind: str, name: str, rows: list[str]) -> str:
    """A C array with the given initialisers; C has no empty arrays, so none becomes one zero."""
    return f"static const {kind} {name}[] = {{{', '.join(rows) or '0'}}};"


def _c(text: str) -> str:
    """`text` as a C string literal: UTF-8, with every byte that is not plain as an octal escape."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(plain)}"'
