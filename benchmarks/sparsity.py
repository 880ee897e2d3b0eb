"""`python -m benchmarks.sparsity`: how many of SmolLM2's neurons tokens can do without, and whether that can be known
before their weights are read. A study in numpy, float32, to judge a sparse mode by; nothing of it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np

from benchmarks.cases import FOLDER
from benchmarks.flash import prepare
from benchmarks.llm_texts import texts
from benchmarks.readme import markdown, update
from edgert.cli.errors import run_safely
from edgert.llm.perplexity import windows
from flashload.sparsity import fit, thresholds, traffic

WINDOW = 512
RANK = 128
Ffn = Callable[[int, np.ndarray], np.ndarray]


class Model:
    """SmolLM2 from its GGUF file, a whole window at a time."""

    def __init__(self, path: Path) -> None:
        from compiler.decoder import open_gguf

        self.d, weights, _ = open_gguf(path, context=WINDOW)
        self.w = {name: np.ascontiguousarray(t.numpy().astype(np.float32)) for name, t in weights.items()}
        angles = np.arange(WINDOW)[:, None] / self.d.ropes[0].theta ** (
            np.arange(0, self.d.head_dim, 2) / self.d.head_dim
        )
        self.cos, self.sin = np.cos(angles).astype(np.float32)[:, None], np.sin(angles).astype(np.float32)[:, None]
        self.mask = np.triu(np.full((WINDOW, WINDOW), -np.inf, np.float32), 1)

    def loss(self, ids: np.ndarray, ffn: Ffn) -> tuple[float, int]:
        """Sum of negative log-likelihoods of the tokens behind the middle, and how many."""
        x, half = self.w["embedding"][ids], len(ids) // 2
        for layer in range(self.d.layers):
            x = x + self._attention(layer, self._norm(x, f"layers.{layer}.attn_norm"))
            x = x + ffn(layer, self._norm(x, f"layers.{layer}.ffn_norm"))
        logits = self._norm(x, "final_norm")[half:-1] @ self.w["embedding"].T
        top = logits.max(-1)
        sums = np.log(np.exp(logits - top[:, None]).sum(-1)) + top
        return float((sums - logits[np.arange(len(logits)), ids[half + 1 :]]).sum()), len(logits)

    def gate_up(self, layer: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """silu of the gate, and up: [tokens, neurons]."""
        gate = x @ self.w[f"layers.{layer}.gate"].T
        return gate / (1 + np.exp(-gate)), x @ self.w[f"layers.{layer}.up"].T

    def down(self, layer: int, hidden: np.ndarray) -> np.ndarray:
        """[tokens, neurons] -> [tokens, width]."""
        return hidden @ self.w[f"layers.{layer}.down"].T

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.d.norm_eps) * self.w[name]

    def _rotated(self, x: np.ndarray) -> np.ndarray:
        y, even, odd = np.empty_like(x), x[..., 0::2], x[..., 1::2]
        y[..., 0::2], y[..., 1::2] = even * self.cos - odd * self.sin, even * self.sin + odd * self.cos
        return y

    def _attention(self, layer: int, x: np.ndarray) -> np.ndarray:
        d, n = self.d, len(x)
        q, k, v = (
            (x @ self.w[f"layers.{layer}.{part}"].T).reshape(n, heads, d.head_dim)
            for part, heads in (("q", d.heads), ("k", d.kv_heads), ("v", d.kv_heads))
        )
        q, k, out = self._rotated(q), self._rotated(k), np.empty_like(q)
        for head in range(d.heads):
            shared = head // (d.heads // d.kv_heads)
            scores = q[:, head] @ k[:, shared].T * d.attention_scale + self.mask
            share = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, head] = share / share.sum(-1, keepdims=True) @ v[:, shared]
        return out.reshape(n, -1) @ self.w[f"layers.{layer}.o"].T


@click.command()
@click.option("--sparsity", default=0.5, show_default=True, help="Share of neurons left out.")
@click.option("--count", default=4, show_default=True, help="Windows of 512 tokens of each text.")
@click.option("--readme/--no-readme", default=False, help="Write the tables to README.md.")
def main(sparsity: float, count: int, readme: bool) -> None:
    """Study sparse feed-forward layers."""
    tried, seen = _cut(count), [window for cut in _cut(2, skip=20).values() for window in cut]
    model = Model(FOLDER / "smollm2.gguf")
    xs: list[list[np.ndarray]] = [[] for _ in range(model.d.layers)]

    def dense(layer: int, x: np.ndarray) -> np.ndarray:
        gate, up = model.gate_up(layer, x)
        return model.down(layer, gate * up)

    def recording(layer: int, x: np.ndarray) -> np.ndarray:
        xs[layer].append(x)
        return dense(layer, x)

    for window in seen:
        model.loss(window, recording)
    x = [np.concatenate(parts) for parts in xs]
    base = _perplexities(model, tried, dense)
    rows = [["all", "", *(f"{value:.2f}" for value in base.values()), ""]]
    lengths = [np.linalg.norm(model.w[f"layers.{i}.down"], axis=0) for i in range(model.d.layers)]
    sets: list[np.ndarray] = [np.zeros((0, model.d.ffn), bool)] * model.d.layers
    for name, reads, scores in _ways(model, x, lengths):
        limits = [thresholds(scores(i, x[i]), sparsity) for i in range(model.d.layers)]

        def sparse(layer: int, h: np.ndarray, scores: Scores = scores, limits: list[float] = limits) -> np.ndarray:
            gate, up = model.gate_up(layer, h)
            sets[layer] = scores(layer, h) > limits[layer]
            return model.down(layer, np.where(sets[layer], gate * up, 0))

        found = _perplexities(model, tried, sparse)
        costs = [f"{found[text]:.2f} ({100 * (found[text] / base[text] - 1):+.1f} %)" for text in base]
        rows.append([name, f"{100 * (1 - reads(sparsity)):.0f} %", *costs, f"{np.mean([s.mean() for s in sets]):.2f}"])
        print(rows[-1], flush=True)
        if name == EXACT:
            ablation = _ablation(sets)
    text = markdown(["neurons chosen by", "fewer bytes", *base, "used"], rows) + "\n" + ablation
    print(text)
    if readme:
        update("sparsity", text)


EXACT = "their part in the result"
Scores = Callable[[int, np.ndarray], np.ndarray]


def _ways(
    model: Model, x: list[np.ndarray], lengths: list[np.ndarray]
) -> Iterator[tuple[str, Callable[[float], float], Scores]]:
    """Name, share of the layer's bytes that is read at a sparsity (float32 alike 4 bits), and scores of neurons."""
    third = 1 / 3
    yield EXACT, lambda s: 1 - third * s, lambda i, h: np.abs(np.multiply(*model.gate_up(i, h))) * lengths[i]
    yield "gate (CATS)", lambda s: third + 2 * third * (1 - s), lambda i, h: np.abs(model.gate_up(i, h)[0])
    gates = [fit(x[i], model.w[f"layers.{i}.gate"], RANK) for i in range(model.d.layers)]
    ups = [fit(x[i], model.w[f"layers.{i}.up"], RANK) for i in range(model.d.layers)]

    def predicted(i: int, h: np.ndarray) -> np.ndarray:
        gate = gates[i](h)
        return np.abs(gate / (1 + np.exp(-gate)) * ups[i](h)) * lengths[i]

    yield f"predictor of rank {RANK}, in memory", lambda s: 1 - s, predicted


def _ablation(sets: list[np.ndarray]) -> str:
    """Reads of the exact sets, in the last window, by bundling and windowing; a token, all layers."""
    rows = []
    for window in (0, 1, 4, 16):
        for bundled in (False, True):
            found = [traffic(active, window, bundled) for active in sets]
            read = sum(f.read for f in found) / sum(f.used for f in found)
            held = sum(f.held for f in found) / sum(active.shape[1] for active in sets)
            name = f"{window} tokens" if window else "none"
            reads = f"{sum(f.reads for f in found):,.0f}"
            rows.append([name, "yes" if bundled else "no", f"{100 * read:.0f} %", reads, f"{100 * held:.0f} %"])
    columns = ["window kept", "bundled", "neurons read of those used", "reads a token", "neurons in memory"]
    return markdown(columns, rows)


def _perplexities(model: Model, tried: dict[str, list[np.ndarray]], ffn: Ffn) -> dict[str, float]:
    found = {}
    for text, cut in tried.items():
        losses = [model.loss(window, ffn) for window in cut]
        found[text] = float(np.exp(sum(loss for loss, _ in losses) / sum(number for _, number in losses)))
    return found


def _cut(count: int, skip: int = 0) -> dict[str, list[np.ndarray]]:
    from edgert.llm.text_model import open_text_model

    _, artifact, _ = prepare("smollm2", ("edge",))
    with open_text_model(artifact, 1) as opened:
        tokenizer = opened.tokenizer
        bos = tokenizer.bos if tokenizer.config["add_bos"] else None
        return {
            name: [np.array(w) for w in windows(tokenizer.encode(text[: (count + skip) * 8192], bos=True), WINDOW, bos)]
            [skip : skip + count]
            for name, text in texts().items()
        }  # fmt: skip


if __name__ == "__main__":
    run_safely(main.main, None, "benchmarks.sparsity")
