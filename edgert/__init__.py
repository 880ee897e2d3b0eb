"""edgert: an ONNX model in, one file out that runs on small devices inside a stated memory budget.

`edgert.load` needs numpy alone; what compiles (tvm, onnx, ...) is imported when `edgert.compile` is called."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edgert.errors import DoesNotFit, EdgertError, UnsupportedModel, UsageError

if TYPE_CHECKING:
    from edgert.runner import Model

__version__ = "0.1.0"
__all__ = ["DoesNotFit", "EdgertError", "UnsupportedModel", "UsageError", "compile", "load"]


def load(path: str | os.PathLike[str], threads: int | None = None, dram: int | str | None = None) -> Model:
    """Load an artifact; see `edgert.runner.load`."""
    from edgert.runner import load as load_artifact

    return load_artifact(path, threads=threads, dram=dram)


def compile(model: str | os.PathLike[str], *args: Any, **options: Any) -> Any:
    """Compile an ONNX model; needs the extra `edgert[compiler]`. See `compiler.pipeline.compile`."""
    try:
        from edgert.building import compile as compile_model
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] not in ("edgert", "compiler"):
            raise EdgertError(f"compiling needs {error.name}: pip install 'edgert[compiler]'") from None
        raise
    return compile_model(model, *args, **options)
