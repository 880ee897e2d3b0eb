"""What the masks of an exported decoder let through, found by running the part of the graph that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from compiler.decoder.exported import Exported
from compiler.frontend import read_model
from targets.errors import UnsupportedModel

SQUARE = 64  # tokens of the text that is looked at whole
LOW = -1e4  # added to a score, what makes a probability nothing


def windows(exported: Exported, names: Sequence[str], context: int) -> list[int | None]:
    """Each layer's window (a token sees itself and the window - 1 before it; None: all), from its mask's value name.

    The mask of SQUARE tokens is looked at whole, and the last row of a text of `context`. Raises UnsupportedModel for a
    mask that is not causal, has other numbers than 0 and nearly -infinity, or cannot be run by itself.
    """
    try:
        made = _Masks(exported, list(dict.fromkeys(names)))
        square, row = made(0, min(SQUARE, context)), made(context - 1, 1)
        found = {name: _window(square[name], row[name]) for name in square}
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{exported.path.name}: {error}") from None
    except Exception as error:  # ONNX Runtime raises many kinds
        text = str(error).splitlines()[0][:160]
        raise UnsupportedModel(f"{exported.path.name}: its attention masks cannot be run ({text})") from None
    return [found[name] for name in names]


class _Masks:
    """(past, seq) -> bool [seq, past + seq] by name: what is seen."""

    def __init__(self, exported: Exported, names: list[str]) -> None:
        import onnxruntime as ort

        model, self.exported, self.names = read_model(exported.path), exported, names
        graph = model.graph
        values = {str(v.name): v for node in graph for v in node.outputs}
        graph.outputs[:] = [values[name] for name in names]
        RemoveUnusedNodesPass()(model)
        graph.inputs[:] = [v for v in graph.inputs if v.uses()]
        options = ort.SessionOptions()
        options.log_severity_level = 4
        data = ir.to_proto(model).SerializeToString()
        self.session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def __call__(self, past: int, seq: int) -> dict[str, np.ndarray]:
        e = self.exported
        feeds: dict[str, Any] = {
            "input_ids": np.zeros((1, seq), np.int64),
            "attention_mask": np.ones((1, past + seq), np.int64),
            "position_ids": np.arange(past, past + seq)[None],
        }
        for given in self.session.get_inputs():
            feeds.setdefault(given.name, np.zeros((1, e.groups, past, e.head_dim), np.float32))
        wanted = {given.name for given in self.session.get_inputs()}
        results = self.session.run(self.names, {name: array for name, array in feeds.items() if name in wanted})
        return {name: _seen(np.asarray(mask), past, seq) for name, mask in zip(self.names, results, strict=True)}


def _seen(mask: np.ndarray, past: int, seq: int) -> np.ndarray:
    if mask.dtype != bool:
        if not ((mask == 0) | (mask <= LOW)).all():
            raise UnsupportedModel("its attention mask adds to scores (ALiBi, for one)")
        mask = mask == 0
    return np.broadcast_to(mask, (1, 1, seq, past + seq))[0, 0]


def _window(square: np.ndarray, row: np.ndarray) -> int | None:
    """The window that explains both. Raises UnsupportedModel."""
    count = int(row.sum())
    window = None if count == row.shape[1] else count
    for seen in (square, row):
        keys = np.arange(seen.shape[1])
        at = keys[-seen.shape[0] :, None]
        wanted = (keys <= at) & (keys > at - (window or seen.shape[1]))
        if not np.array_equal(seen, wanted):
            raise UnsupportedModel("its attention mask is neither causal nor a window")
    return window
