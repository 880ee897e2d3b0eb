"""Perplexity of both runtimes, and of ONNX Runtime in float32, on the same windows (edgert/llm/perplexity.py)."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.llm_race import Rival
from benchmarks.llm_texts import texts
from edgert.llm.perplexity import negative_log_likelihood, windows
from edgert.llm.text_model import open_text_model

WINDOW = 512
FLOAT = "ONNX Runtime, float32"


@dataclass(frozen=True)
class Perplexity:
    """Of one model and text, by who measured it."""

    model: str
    text: str
    windows: int
    tokens: int
    by: dict[str, float]


def measure(model: str, gguf: Path, rivals: Sequence[Rival], most: int | None, reference: bool) -> list[Perplexity]:
    """On every text the first `most` windows (None: all). `reference`: also ONNX Runtime on the decoded weights."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for text, cut in _windows(rivals[0].file, most).items():
            file = Path(folder) / "windows"
            np.array([WINDOW, *np.ravel(cut)], np.int32).tofile(file)
            by, tokens = {}, 0
            for rival in rivals:
                with rival.start(2, WINDOW) as worker:
                    answer = worker.ask(f"nll {file}")
                by[rival.name], tokens = math.exp(answer["nll"] / answer["tokens"]), answer["tokens"]
            if reference:
                by[FLOAT] = _float_perplexity(gguf, Path(folder), cut)
            found.append(Perplexity(model, text, len(cut), tokens, by))
    return found


def _windows(artifact: Path, most: int | None) -> dict[str, list[list[int]]]:
    with open_text_model(artifact, 1) as model:
        tokenizer = model.tokenizer
        bos = tokenizer.bos if tokenizer.config["add_bos"] else None
        found = {}
        for name, text in texts().items():
            some = text if most is None else text[: most * WINDOW * 12]  # more characters than the windows need
            found[name] = windows(tokenizer.encode(some, bos=True), WINDOW, bos)[:most]
        return found


def _float_perplexity(gguf: Path, folder: Path, cut: Sequence[Sequence[int]]) -> float:
    """exp of the mean loss behind the middle of each window; logits by ONNX Runtime in float32."""
    import onnxruntime

    from compiler.decoder import open_gguf
    from compiler.decoder.standard import to_onnx

    file = folder / "float.onnx"
    decoder, weights, _ = open_gguf(gguf, context=WINDOW)
    if not file.is_file():
        to_onnx(decoder, weights, file, context=WINDOW)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    past = np.empty((1, decoder.kv_heads, 0, decoder.head_dim), np.float32)
    empty = {f"past_{what}.{i}": past for what in ("key", "value") for i in range(decoder.layers)}
    losses = []
    for window in cut:
        ids = np.array([window], np.int64)
        feed = {"input_ids": ids, "position_ids": np.arange(ids.size, dtype=np.int64)[None], **empty}
        first = len(window) // 2
        logits = session.run(["logits"], feed)[0][0, first:-1]
        losses.append(negative_log_likelihood(logits, window[first + 1 :]))
    return math.exp(float(np.concatenate(losses).mean()))
