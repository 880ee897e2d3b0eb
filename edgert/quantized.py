"""Quantize a model on its way into the compiler."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from edgert.errors import UsageError
from edgert.llm.build_exported import tokenizer_folder
from edgert.llm.tokenizer_files import FILES
from edgert.units import format_bytes

Calibration = str | os.PathLike[str] | Iterable[dict[str, np.ndarray]]


def quantized_copy(
    model: Path,
    folder: Path,
    scheme: str,
    calibrate: Calibration | None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Path, str]:
    """Writes `model` quantized below `folder`, under its own name, with its facts and tokenizer beside it.

    Gives that path, and a note.

    Raises UsageError for an unknown scheme, for one that needs samples without `calibrate`, and for bad samples.
    """
    from edgert.interface.calibration import calibration
    from quant.quantize import quantize, scheme_named

    if scheme_named(scheme).calibrated and calibrate is None:
        raise UsageError(f"--quant {scheme} needs --calibrate: an .npz file or a folder with one file a sample")
    samples = calibration(str(calibrate), str(model)) if isinstance(calibrate, str | os.PathLike) else calibrate
    folder /= model.resolve().parent.name or "model"  # the folder's name may be the model's
    folder.mkdir()
    out = folder / model.with_suffix(".onnx").name
    tell = (lambda what, done, total: progress(what, done, total or 0)) if progress else None
    done = quantize(model, out, scheme, samples, progress=tell)
    facts = model.with_suffix(".json")
    if facts.is_file():
        shutil.copyfile(facts, out.with_suffix(".json"))
    if beside := tokenizer_folder(model):
        for file in filter(Path.is_file, (beside / name for name in FILES)):
            shutil.copyfile(file, folder / file.name)
    kept = sum(layer.scheme is None for layer in done.layers)
    sizes = f"constants {format_bytes(done.bytes_before)} -> {format_bytes(done.bytes_after)}"
    told = f"{len(done.layers) - kept} layers quantized, {kept} left in float32"
    return out, f"quantized: {scheme}, {sizes}; {told} (`edgert quantize --report` tells what it cost)"
