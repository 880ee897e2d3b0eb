"""A GGUF file to an artifact that generates: the compiled decoder, its tokenizer, and what the engine has to know."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgert import cpu
from edgert.errors import UsageError
from edgert.llm.self_check import MEMBER
from edgert.llm.text_model import CONFIG, LIKELIEST, TEXTS, TOKENIZER
from edgert.llm.token_texts import pack_texts
from edgert.llm.tokenizer import Tokenizer
from edgert.llm.tokenizer_gguf import tokenizer_from_gguf

if TYPE_CHECKING:
    from compiler.pipeline import Compiled, Progress
    from edgert.sparse import Sparsity
    from targets.target import Target

FIRST = "f16"  # how the cache is stored unless asked otherwise
WATCHED = "f16q"  # so that rows can be forgotten by how little they are attended to
CACHES = ("i8", "i4", "i2", WATCHED)  # how else it can be
CHUNK = 256  # tokens of a prompt that go through the model at once
WANTED = 64  # of which so many give logits, for checking guesses and measuring perplexity


def compile_decoder(
    path: Path,
    target: Target,
    context: int | None = None,
    tiles: Callable[..., dict] | None = None,
    debug_dump: Path | None = None,
    progress: Progress | None = None,
    caches: Sequence[str] = CACHES,
    golden: bool = True,
    sparsity: Sparsity | None = None,
    requantize: str | None = None,
) -> tuple[Compiled, dict[str, bytes]]:
    """The compiled model and the members that hold its tokenizer and, unless not `golden`, right answers.

    caches: further ways to store keys and values, each a program of the artifact over the same weights. One more is
    LIKELIEST, where the output layer allows it.

    requantize: a scheme of compiler.gguf.requantize for weights of more bits.

    context: the most tokens that a text may have (default: what the model was made for). sparsity: feed-forward layers
    leave neurons out. Raises EdgertError for a
    damaged file, UnsupportedModel for an architecture or a type of weights that is not known.
    """
    from compiler.decoder import open_gguf
    from compiler.decoder.golden import make
    from compiler.decoder.graph import tells_likeliest, to_graph
    from compiler.decoder.thresholds import calibrate
    from compiler.gguf.requantize import requantized
    from compiler.pipeline import compile_model
    from targets.kernels.cached_attention_formats import FORMATS

    if context is not None and context < 2:
        raise UsageError(f"--context {context}: give at least 2 tokens")
    opened = open_gguf(path, context)
    notes: list[str] = []
    if requantize is not None:
        weights, note = requantized(opened.weights, requantize)
        opened, notes = opened._replace(weights=weights), [note]
    decoder = opened.decoder
    text, config = tokenizer_from_gguf(opened.metadata)
    most = decoder.context if context is None else min(context, decoder.context)
    dims = {"seq": (1, CHUNK), "want": (1, WANTED), "context": (1, most)}
    caches = [cache for cache in caches if decoder.head_dim % FORMATS[cache].multiple == 0]
    if any(decoder.windows):  # a window counts rows, of which none must be missing then
        caches = [cache for cache in caches if cache != WATCHED]
    neurons, cost = None, None
    if sparsity is not None:
        started = time.perf_counter()
        cut = sparsity.windows(Tokenizer(text, config), most)
        neurons, cost = calibrate(decoder, opened.weights, cut, sparsity.share, sparsity.hot)
        spent = round(time.perf_counter() - started, 4)
    graphs = {cache: to_graph(decoder, opened.weights, most, cache, neurons) for cache in (FIRST, *caches)}
    if tells_likeliest(decoder, opened.weights):
        graphs[LIKELIEST] = to_graph(decoder, opened.weights, most, FIRST, neurons, likeliest=True)
    done = compile_model(
        path, target, None, dims, decoder.name or path.stem, tiles, debug_dump, progress,
        graph=graphs.pop(FIRST), variants=graphs,
    )  # fmt: skip
    done.notes[:0] = notes
    for cache, part in {FIRST: done.manifest, **done.manifest.get("programs", {})}.items():
        part["state"] = [tensor["name"] for tensor in part["inputs"] if tensor["name"].startswith("cache.")]
        # a run whose logits nobody wants has no tasks in its output layer, which then need not be read
        part["dims"] = [{**dim, "min": 0} if dim["name"] == "want" else dim for dim in part["dims"]]
        own = cache_facts(FIRST if cache == LIKELIEST else cache)
        part["decoder"] = {**_facts(decoder, most), "ends": config["end_ids"], **own}
    if cost is not None:
        done.manifest["sparsity"] = asdict(cost)
        done.notes.append(str(cost))
        done.seconds["thresholds"] = spent
    more = {TOKENIZER: text.encode(), CONFIG: json.dumps(config).encode(), TEXTS: pack_texts(text, config)}
    if golden:
        started, first = time.perf_counter(), config["bos"] or 0
        if answers := make(decoder, opened.weights, first, cpu.available_memory(), done.notes, neurons):
            more[MEMBER] = json.dumps(answers).encode()
        done.seconds["golden"] = round(time.perf_counter() - started, 4)
    return done, more


def finish(done: Compiled, facts: Mapping[str, Any], text: str, config: Mapping[str, Any]) -> dict[str, bytes]:
    """Write into the manifest what the engine has to know; the members that hold the tokenizer."""
    for cache, part in {FIRST: done.manifest, **done.manifest.get("programs", {})}.items():
        part["state"] = [tensor["name"] for tensor in part["inputs"] if tensor["name"].startswith("cache.")]
        part["decoder"] = {**facts, "ends": config["end_ids"], **cache_facts(cache)}
    return {TOKENIZER: text.encode(), CONFIG: json.dumps(config).encode(), TEXTS: pack_texts(text, config)}


def cache_facts(cache: str) -> dict[str, Any]:
    """What the manifest's entry `decoder` has of a format of the cache."""
    from targets.kernels.cached_attention_formats import FORMATS

    return {"cache": cache, **FORMATS[cache].facts()}


def _facts(decoder: Any, context: int) -> dict[str, Any]:
    """The manifest's entry `decoder`."""
    return {
        "architecture": decoder.architecture,
        "vocab": decoder.vocab,
        "layers": decoder.layers,
        "groups": decoder.kv_heads,
        "head_dim": decoder.head_dim,
        "context": context,
        "chunk": CHUNK,
        "wanted": WANTED,
        **_rotations(decoder.ropes),
    }


def _rotations(ropes: Sequence[Any]) -> dict[str, Any]:
    """How keys turn with their positions: each rotation once, with its radians a position, and every layer's index."""
    kinds = list(dict.fromkeys(ropes))
    return {
        "rotations": [
            {"dims": rope.dims, "interleaved": rope.interleaved, "frequencies": rope.frequencies().tolist()}
            for rope in kinds
        ],
        "rotation_of_layer": [kinds.index(rope) for rope in ropes],
    }
