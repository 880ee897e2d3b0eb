"""What a decoder should answer, for its artifact to carry: ONNX Runtime's logits on the weights in floats.

A text of TOKENS tokens begins with one token and goes on with the likeliest ones. Of each token's logits the LIKELIEST
are kept, and some spread over the vocabulary.

The compiled decoder rounds activations to 8 bits in blocks and its cache to float16. What that costs depends on the
model, so it is measured: ONNX Runtime runs the same graph with the same roundings, and the compiled one may be off by
SLACK times as much. (Roundings in another order of sums fall the other way now and then, which makes errors of one size
that are drawn anew, of TOKENS * (LIKELIEST + SPREAD) numbers: their sizes then differ by a few tenths.)
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from compiler.decoder.by_neuron import ByNeuron
from compiler.decoder.config import Decoder
from compiler.decoder.rounded import round_like_compiled
from compiler.decoder.session import Session
from compiler.decoder.standard import to_onnx
from compiler.decoder.thresholds import without
from compiler.gguf import Tensor

TOKENS, LIKELIEST, SPREAD = 16, 8, 56
SLACK = 2.0
LEAST = (
    1e-3  # of the logits' spread: float16 keys and values (2**-11) and sums in another order, where nothing is 8-bit
)


def make(
    decoder: Decoder,
    weights: Mapping[str, Tensor],
    first: int,
    memory: int | None,
    notes: list[str],
    neurons: ByNeuron | None = None,
) -> dict[str, Any] | None:
    """`ids` [TOKENS], and for each token `columns` (ids, the likeliest first) and `logits` there, `spread` (the logits'
    standard deviation); `tolerance`: the largest root mean square of errors / spread.

    first: the token to begin with. memory: bytes that are free, None if unknown. neurons: those that are left out.
    Nothing, with a note, where the
    weights in floats are too large for half of that or for the disk, or ONNX Runtime does not run the graph.
    """
    floats = 4 * sum(int(np.prod(weight.shape)) for weight in weights.values())
    with tempfile.TemporaryDirectory(prefix="edgert-reference-") as name:
        folder = Path(name)
        if (memory is not None and 2 * floats > memory) or floats > shutil.disk_usage(folder).free:
            notes.append(f"no golden answers: the reference takes {2 * floats / 2**30:.1f} GiB of memory and disk")
            return None
        try:
            exact = to_onnx(decoder, weights, folder / "exact.onnx", context=min(decoder.context, TOKENS))
            if neurons is not None:
                exact = without(exact, neurons, folder / "sparse.onnx")
            ids, logits = likeliest_text(Session(exact, decoder), first, min(decoder.context, TOKENS))
            rounded = round_like_compiled(exact, weights, folder / "rounded.onnx")
            off = Session(rounded, decoder).feed(ids) - logits
        except Exception as error:  # ONNX Runtime raises many kinds
            notes.append(f"no golden answers: ONNX Runtime does not run it ({str(error).splitlines()[0][:160]})")
            return None
    return answers(ids, logits, off)


class Feed(Protocol):
    """A decoder that takes tokens in pieces."""

    def feed(self, ids: list[int]) -> np.ndarray:
        """The logits of these tokens, float32 [tokens, vocab]."""


def answers(ids: list[int], logits: np.ndarray, off: np.ndarray) -> dict[str, Any]:
    """What `make` gives, from the logits [tokens, vocab] and how far others are off that are rounded as the compiled
    decoder's."""
    spread, vocab = logits.std(axis=1), logits.shape[1]
    even = np.linspace(0, vocab - 1, min(SPREAD, vocab)).astype(int)
    columns = [[*np.argsort(-row, kind="stable")[:LIKELIEST].tolist(), *even.tolist()] for row in logits]
    cost = float(np.sqrt(np.mean((off.std(axis=1) / spread) ** 2)))
    return {
        "ids": ids,
        "columns": columns,
        "likeliest": min(LIKELIEST, vocab),
        "logits": [[float(x) for x in row[at]] for row, at in zip(logits, columns, strict=True)],
        "spread": [float(x) for x in spread],
        "tolerance": max(SLACK * cost, LEAST),
    }


def likeliest_text(session: Feed, first: int, count: int) -> tuple[list[int], np.ndarray]:
    """Token ids and the logits after each, float32 [count, vocab]."""
    ids, rows = [first], []
    while True:
        rows.append(session.feed(ids[-1:])[0])
        if len(ids) == count:
            return ids, np.stack(rows)
        ids.append(int(rows[-1].argmax()))
