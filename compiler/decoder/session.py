"""A decoder's ONNX graph in ONNX Runtime, with its cache kept between calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from compiler.decoder import Decoder


class Session:
    """Feeds tokens in pieces."""

    def __init__(self, path: Path, decoder: Decoder, layers: int | None = None, threads: int = 2) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        empty = np.zeros((1, decoder.kv_heads, 0, decoder.head_dim), np.float32)
        count = decoder.layers if layers is None else layers
        self.past = {f"past_{kind}.{n}": empty for n in range(count) for kind in ("key", "value")}
        self.position = 0

    def feed(self, ids: list[int]) -> np.ndarray:
        """The logits of these tokens, float32 [tokens, vocab]."""
        positions = np.arange(self.position, self.position + len(ids))[None]
        feeds = {"input_ids": np.array([ids], np.int64), "position_ids": positions, **self.past}
        results = dict(zip(self.names, self.session.run(None, feeds), strict=True))
        self.position += len(ids)
        self.past = {name.replace("present", "past"): value for name, value in results.items() if name != "logits"}
        return results["logits"][0]

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """The `count` most likely tokens after `ids`."""
        found: list[int] = []
        for _ in range(count):
            row = self.feed(ids)[-1]
            ids = [int(row.argmax())]
            found += ids
        return found
