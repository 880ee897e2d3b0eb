"""Which models are language models, and what compiles them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgert.errors import UsageError
from edgert.llm.build import compile_decoder
from edgert.llm.build_exported import compile_exported, exported_with_tokenizer

if TYPE_CHECKING:
    from compiler.pipeline import Compiled

Compile = Callable[..., "tuple[Compiled, dict[str, bytes]]"]


def _gguf(path: Path) -> Compile:
    return partial(compile_decoder, path)


def _onnx(path: Path) -> Compile | None:
    found = exported_with_tokenizer(path)
    return None if found is None else partial(compile_exported, *found)


KINDS: dict[str, Callable[[Path], Compile | None]] = {".gguf": _gguf, ".onnx": _onnx}


def compiler_of(path: Path, context: int | None, **given: Any) -> Compile | None:
    """What compiles the language model at `path` (a function of target, context, tiles, debug_dump, progress and
    golden); None for another model. given: options that language models do not have, by name.

    An ONNX decoder whose dimensions are given is compiled as any model. Raises UsageError for options that do not go
    together, and what reading the model raises.
    """
    kind = KINDS.get(path.suffix.lower())
    options = [f"--{name}" for name, value in given.items() if value]
    if path.suffix.lower() != ".gguf" and options:
        kind = None
    found = kind(path) if kind is not None else None
    if found is None and context is not None:
        raise UsageError(
            f"--context is for language models: .gguf, or .onnx with past key values and a tokenizer.json beside it"
            f"{', without ' + ' and '.join(options) if options else ''}"
        )
    if found is not None and options:
        raise UsageError(f"a language model does not take {' or '.join(options)}: give --context")
    return found
