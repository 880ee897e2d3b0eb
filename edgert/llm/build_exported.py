"""A decoder exported to ONNX, with its tokenizer's files beside it, to an artifact that generates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgert.errors import UsageError
from edgert.llm.build import CACHES, CHUNK, FIRST, WANTED, WATCHED, finish
from edgert.llm.self_check import MEMBER
from edgert.llm.tokenizer_files import TOKENIZER, context_beside, tokenizer_beside

if TYPE_CHECKING:
    import onnx_ir as ir

    from compiler.decoder.exported import Exported
    from compiler.pipeline import Compiled, Progress
    from targets.target import Target

MOST_CONTEXT = 2048  # where neither --context nor config.json says otherwise
MODELS = ("model.onnx", "onnx/model.onnx")  # in a folder, as optimum and the hub have them


def model_in(path: Path) -> Path:
    """The model file: `path` itself, or what lies in the folder `path`. Raises UsageError where there is none."""
    if not path.is_dir():
        return path
    found = next((path / name for name in MODELS if (path / name).is_file()), None)
    if found is None:
        raise UsageError(f"{path} is a folder without {' or '.join(MODELS)}: give the model file itself")
    return found


def exported_with_tokenizer(path: Path) -> tuple[Exported, Path] | None:
    """The model at `path` and the folder of its tokenizer, if it is a language model. Raises what `recognise` does."""
    from compiler.decoder.exported import recognise

    folder = tokenizer_folder(path)
    exported = recognise(path) if folder is not None else None
    return None if exported is None or folder is None else (exported, folder)


def tokenizer_folder(model: Path) -> Path | None:
    """Where the tokenizer of an exported model lies: beside it, or, of onnx/model.onnx, in the folder above."""
    return next((f for f in (model.parent, model.parent.parent) if (f / TOKENIZER).is_file()), None)


def graphs_of(
    exported: Exported, folder: Path, context: int | None = None, caches: Sequence[str] = (FIRST,)
) -> tuple[dict[str, ir.Model], dict[str, tuple[int, int]]]:
    """The graph for each way to store keys and values, and the bounds of their dimensions. Raises UnsupportedModel."""
    from compiler.decoder import exported as layout
    from compiler.decoder.exported_masks import windows

    made_for = context_beside(folder)
    if context is not None and made_for is not None:
        context = min(context, made_for)
    most = context or made_for or MOST_CONTEXT
    found = layout.attentions(exported)
    seen = windows(exported, [str(attention.mask.name) for attention in found], most)
    heads = layout.head_count(exported, str(found[0].query.name))
    graphs = {cache: layout.to_graph(exported, seen, heads, cache) for cache in caches}
    return graphs, {"seq": (1, CHUNK), "want": (1, WANTED), "context": (1, most)}


def compile_exported(
    exported: Exported,
    folder: Path,
    target: Target,
    context: int | None = None,
    tiles: Callable[..., dict] | None = None,
    debug_dump: Path | None = None,
    progress: Progress | None = None,
    caches: Sequence[str] = CACHES,
    golden: bool = True,
) -> tuple[Compiled, dict[str, bytes]]:
    """As compile_decoder, of a model that compiler.decoder.exported recognised; `folder` has its tokenizer.

    Raises UnsupportedModel where its attention is not understood, EdgertError for damaged files."""
    from compiler.decoder.golden_exported import make
    from compiler.pipeline import compile_model
    from targets.kernels.cached_attention_formats import FORMATS

    text, config = tokenizer_beside(folder, exported.vocab)
    usable = [cache for cache in caches if cache != WATCHED and exported.head_dim % FORMATS[cache].multiple == 0]
    graphs, dims = graphs_of(exported, folder, context, (FIRST, *usable))
    most = dims["context"][1]
    name = exported.path.stem if exported.path.stem != "model" else folder.resolve().name
    done = compile_model(
        exported.path, target, None, dims, name, tiles, debug_dump, progress,
        graph=graphs.pop(FIRST), variants=graphs,
    )  # fmt: skip
    facts = {
        "architecture": "onnx", "vocab": exported.vocab, "layers": exported.layers, "groups": exported.groups,
        "head_dim": exported.head_dim, "context": most, "chunk": CHUNK, "wanted": WANTED,
    }  # fmt: skip
    more = finish(done, facts, text, config)
    if golden:
        started = time.perf_counter()
        if answers := make(exported, config["bos"] or 0, most, done.notes):
            more[MEMBER] = json.dumps(answers).encode()
        done.seconds["golden"] = round(time.perf_counter() - started, 4)
    return done, more
