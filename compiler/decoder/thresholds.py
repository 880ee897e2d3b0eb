"""From which part in a layer's result on a neuron counts: taken from a text, and what leaving out the others costs.

ONNX Runtime runs the model in floats on windows of the text; the last of them are kept to measure perplexity on, with
all neurons and with those that the thresholds leave.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compiler.decoder.by_neuron import ByNeuron
from compiler.decoder.config import Decoder
from compiler.decoder.session import Session
from compiler.decoder.standard import to_onnx
from compiler.gguf import Tensor
from flashload.sparsity import limits_of


@dataclass(frozen=True)
class Cost:
    """Perplexity with all neurons and without those that are left out; which share of them that was. Of `tokens`."""

    dense: float
    sparse: float
    share: float
    tokens: int

    def __str__(self) -> str:
        more = 100 * (self.sparse / self.dense - 1)
        return (
            f"sparse: {100 * self.share:.0f} % of neurons left out; perplexity on {self.tokens} tokens that the "
            f"thresholds were not taken from: {self.sparse:.2f} for {self.dense:.2f} ({more:+.1f} %)"
        )


def calibrate(
    decoder: Decoder, weights: Mapping[str, Tensor], windows: Sequence[Sequence[int]], share: float, hot: float = 0.0
) -> tuple[ByNeuron, Cost]:
    """Thresholds that leave out a share of neurons; hot: a share that always counts, those that matter most. windows:
    token ids; of two or more the last third is measured on. What ONNX Runtime raises is passed on."""
    kept = max(1, len(windows) // 3)
    with tempfile.TemporaryDirectory(prefix="edgert-neurons-") as name:
        folder, names = Path(name), [f"layers.{i}" for i in range(decoder.layers)]
        exact = to_onnx(decoder, weights, folder / "exact.onnx", context=max(map(len, windows)))
        seen = _hidden(exact, decoder, windows[:-kept] or windows, names, folder / "seen.onnx")
        lengths = {at: np.linalg.norm(weights[f"{at}.down"].numpy(), axis=0) for at in names}
        plan = ByNeuron({at: limits_of(seen[at], lengths[at], share, hot) for at in names})
        sparse = without(exact, plan, folder / "sparse.onnx")
        (dense, tokens), (left, _) = (_perplexity(path, decoder, windows[-kept:]) for path in (exact, sparse))
        out = np.mean([np.mean(seen[at] <= plan.limits[at]) for at in names])
    return plan, Cost(dense, left, float(out), tokens)


def _hidden(
    source: Path, decoder: Decoder, windows: Sequence[Sequence[int]], names: Sequence[str], path: Path
) -> dict[str, np.ndarray]:
    """|activation(gate) * up| of every layer, float16 [tokens, ffn]."""
    model = onnx.load(source, load_external_data=False)
    wanted = [f"{at}.gated" for at in names]
    model.graph.output.extend(helper.make_tensor_value_info(w, 1, ["seq", decoder.ffn]) for w in wanted)
    path.write_bytes(model.SerializeToString())
    session = Session(path, decoder)
    found: dict[str, list[np.ndarray]] = {at: [] for at in names}
    for window in windows:
        rows = session.session.run(wanted, _feeds(session, window))
        for at, row in zip(names, rows, strict=True):
            found[at].append(np.abs(row).astype(np.float16))
    return {at: np.concatenate(parts) for at, parts in found.items()}


def without(source: Path, plan: ByNeuron, path: Path) -> Path:
    """The graph with zeros for what is not above the limits."""
    model = onnx.load(source, load_external_data=False)
    nodes = []
    for node in model.graph.node:
        at = node.name.removesuffix(".down.y")
        if node.name.endswith(".down.y"):
            h = node.input[0]
            model.graph.initializer.append(numpy_helper.from_array(plan.limits[at], f"{at}.limits"))
            nodes += [
                helper.make_node("Abs", [h], [f"{h}.size"]),
                helper.make_node("Greater", [f"{h}.size", f"{at}.limits"], [f"{h}.counts"]),
                helper.make_node("Where", [f"{h}.counts", h, "neurons.zero"], [f"{h}.left"]),
            ]
            node.input[0] = f"{h}.left"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "neurons.zero"))
    path.write_bytes(model.SerializeToString())
    return path


def _perplexity(path: Path, decoder: Decoder, windows: Sequence[Sequence[int]]) -> tuple[float, int]:
    """Of the tokens behind the middle of each window, as edgert/llm/perplexity.py; and how many those are."""
    session, total, count = Session(path, decoder), 0.0, 0
    for window in windows:
        logits = session.session.run(["logits"], _feeds(session, window))[0][0]
        half = len(window) // 2
        rows, ids = logits[half:-1].astype(np.float64), np.array(window[half + 1 :])
        top = rows.max(-1)
        total += float((np.log(np.exp(rows - top[:, None]).sum(-1)) + top - rows[np.arange(len(ids)), ids]).sum())
        count += len(ids)
    return float(np.exp(total / count)), count


def _feeds(session: Session, window: Sequence[int]) -> dict[str, np.ndarray]:
    """A window from an empty cache."""
    ids = np.array([window], np.int64)
    return {"input_ids": ids, "position_ids": np.arange(len(window))[None], **session.past}
