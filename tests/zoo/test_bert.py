"""The built encoder against the same arithmetic written in numpy (float64), on a small network."""

import math

import numpy as np
import onnxruntime
import pytest

from compiler.zoo.bert import BertConfig, sentence_encoder

HIDDEN, HEADS, LAYERS, INNER, WORDS, POSITIONS = 12, 3, 2, 20, 30, 16
CONFIG = BertConfig(layers=LAYERS, heads=HEADS, epsilon=1e-12, positions=POSITIONS)


def random_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = {f"embeddings.{part}_embeddings.weight": (rows, HIDDEN)
              for part, rows in (("word", WORDS), ("token_type", 2), ("position", POSITIONS))}  # fmt: skip
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        linears = [(f"attention.self.{part}", HIDDEN, HIDDEN) for part in ("query", "key", "value")]
        linears += [("attention.output.dense", HIDDEN, HIDDEN), ("intermediate.dense", INNER, HIDDEN)]
        for part, rows, columns in [*linears, ("output.dense", HIDDEN, INNER)]:
            shapes |= {f"{name}.{part}.weight": (rows, columns), f"{name}.{part}.bias": (rows,)}
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    for name in norms:
        shapes |= {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def forward(w: dict[str, np.ndarray], ids: np.ndarray, mask: np.ndarray, types: np.ndarray) -> tuple:
    """Hidden states [seq, HIDDEN] and the embedding, from 1-D inputs."""
    w = {name: array.astype(np.float64) for name, array in w.items()}
    erf = np.vectorize(math.erf)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + CONFIG.epsilon)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][types]
    x = norm(x + w["embeddings.position_embeddings.weight"][: len(ids)], "embeddings.LayerNorm")
    size = HIDDEN // HEADS
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        q, k, v = (linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        heads = []
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            scores = q[:, part] @ k[:, part].T / np.sqrt(size)
            weights = np.exp(scores - scores.max(-1, keepdims=True)) * mask  # masked tokens weigh nothing
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, part])
        y = linear(np.concatenate(heads, -1), f"{name}.attention.output.dense")
        x = norm(x + y, f"{name}.attention.output.LayerNorm")
        y = linear(x, f"{name}.intermediate.dense")
        y = linear(y * (1 + erf(y / np.sqrt(2))) / 2, f"{name}.output.dense")
        x = norm(x + y, f"{name}.output.LayerNorm")
    mean = x[mask == 1].mean(0)
    return x, mean / np.linalg.norm(mean)


@pytest.mark.parametrize("seq", [1, 5, POSITIONS])
def test_equals_numpy(seq: int) -> None:
    weights = random_weights()
    model = sentence_encoder("small", weights, CONFIG)
    assert [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim] == ["", "seq"]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rng = np.random.default_rng(seq)
    ids, types = rng.integers(0, WORDS, seq), rng.integers(0, 2, seq)
    for attended in {seq, max(1, seq - 3)}:
        mask = (np.arange(seq) < attended).astype(np.int64)
        feeds = {"input_ids": ids[None], "attention_mask": mask[None], "token_type_ids": types[None]}
        hidden, embedding = session.run(["last_hidden_state", "embedding"], feeds)
        expected = forward(weights, ids, mask, types)
        # float32 against float64 over two layers of unit-variance sums: some tens of roundings of 6e-8.
        np.testing.assert_allclose(hidden[0], expected[0], atol=2e-5)
        np.testing.assert_allclose(embedding[0], expected[1], atol=1e-5)


def test_every_array_is_used() -> None:
    weights = random_weights()
    used = {
        name.removesuffix(".T") for name in (t.name for t in sentence_encoder("s", weights, CONFIG).graph.initializer)
    }
    assert set(weights) <= used
