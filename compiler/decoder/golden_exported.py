"""What an exported decoder should answer: as golden.py has it, ONNX Runtime running the model as it was given.

The compiled one keeps keys and values in float16. What that costs is measured with a past that is rounded so; where the
model rounds activations itself, ties that fall the other way for it are part of the cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from compiler.decoder.exported import Exported
from compiler.decoder.golden import TOKENS, answers, likeliest_text


class Session:
    """The model in ONNX Runtime, with its past kept between calls, in float16 where asked."""

    def __init__(self, exported: Exported, half: bool = False) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        self.session = ort.InferenceSession(str(exported.path), options, providers=["CPUExecutionProvider"])
        empty = np.zeros((1, exported.groups, 0, exported.head_dim), np.float32)
        kinds = [f"{n}.{kind}" for n in range(exported.layers) for kind in ("key", "value")]
        self.past = {f"past_key_values.{name}": empty for name in kinds}
        self.outputs = ["logits", *(f"present.{name}" for name in kinds)]
        self.inputs = {given.name for given in self.session.get_inputs()}
        self.position, self.half = 0, half

    def feed(self, ids: list[int]) -> np.ndarray:
        """The logits of these tokens, float32 [tokens, vocab]."""
        end = self.position + len(ids)
        given = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(self.position, end)[None],
            **self.past,
        }
        feeds = {name: array for name, array in given.items() if name in self.inputs}
        logits, *present = self.session.run(self.outputs, feeds)
        kept = [x.astype(np.float16).astype(np.float32) if self.half else x for x in present]
        self.past, self.position = dict(zip(self.past, kept, strict=True)), end
        return logits[0]


def make(exported: Exported, first: int, context: int, notes: list[str]) -> dict[str, Any] | None:
    """As golden.make. Nothing, with a note, where ONNX Runtime does not run the model."""
    try:
        ids, logits = likeliest_text(Session(exported), first, min(context, TOKENS))
        rounded = Session(exported, half=True)
        off = np.concatenate([rounded.feed([token]) for token in ids]) - logits
    except Exception as error:  # ONNX Runtime raises many kinds
        notes.append(f"no golden answers: ONNX Runtime does not run this model ({str(error).splitlines()[0][:160]})")
        return None
    return answers(ids, logits, off)
