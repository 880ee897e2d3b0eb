"""edgert: an ONNX model in, one file out that runs on small devices inside a stated memory budget.

`edgert.load` needs numpy alone; what compiles (tvm, onnx, ...) is imported when `edgert.compile` is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edgert.errors import DoesNotFit, EdgertError, UnsupportedModel, UsageError

if TYPE_CHECKING:
    from edgert.build import CompileReport
    from edgert.runner import Model
    from flashload.profile import FlashProfile

__version__ = "0.1.0"
__all__ = ["DoesNotFit", "EdgertError", "UnsupportedModel", "UsageError", "compile", "load"]


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    dram: int | str | None = None,
    profile: FlashProfile | str | None = None,
    device: str = "local",
) -> Model:
    """Load an artifact; see `edgert.runner.load`."""
    from edgert.runner import load as load_artifact

    return load_artifact(path, threads=threads, dram=dram, profile=profile, device=device)


def compile(model: str | os.PathLike[str], out: str | os.PathLike[str], **options: Any) -> CompileReport:
    """Compile the ONNX file `model` into `out`; needs the extra `edgert[compiler]`. See `edgert.build.compile`."""
    from edgert.build import compile as compile_model

    return compile_model(model, out, **options)
