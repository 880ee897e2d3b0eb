"""Magika's inputs and answers: a file's bytes to the model's features, the model's scores to a label.

Follows version 1.0.3 of the package (feature extraction v2, prediction mode "high confidence"); the numbers come
from `magika.json`, which `edgert pull magika` writes. numpy only.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_WHITESPACE = b" \t\n\r\x0b\x0c"  # what bytes.strip() strips


class Answer(NamedTuple):
    """The label to show, the model's own label (empty where the model was not asked), and its score, 0 to 1."""

    label: str
    model_label: str
    score: float


@dataclass(frozen=True)
class MagikaConfig:
    """The part of `magika.json` used here: sizes in bytes, thresholds as scores."""

    labels: list[str]
    is_text: list[bool]
    beg_size: int
    end_size: int
    block_size: int
    padding_token: int
    min_file_size_for_dl: int
    medium_confidence_threshold: float
    thresholds: dict[str, float]
    overwrite_map: dict[str, str]

    @classmethod
    def read(cls, path: str | Path) -> "MagikaConfig":
        """From `magika.json`."""
        table: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**{field: table[field] for field in cls.__dataclass_fields__})


def read_ends(path: str | Path, config: MagikaConfig) -> tuple[bytes, bytes]:
    """The first and the last block of a file: all the model looks at, however long the file."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        block = min(size, config.block_size)
        file.seek(0)
        first = file.read(block)
        file.seek(size - block)
        return first, file.read(block)


def features(first: bytes, last: bytes, config: MagikaConfig) -> np.ndarray | None:
    """The model's input `bytes`, int32 [1, beg_size + end_size], from a content's first and last block.

    None where too little is left after stripping whitespace for the model to judge: see `small_label`.
    """
    beg = first[: config.block_size].lstrip(_WHITESPACE)[: config.beg_size]
    if len(beg) < config.min_file_size_for_dl:
        return None
    end = last[-config.block_size :].rstrip(_WHITESPACE)[-config.end_size :]
    row = np.full((1, config.beg_size + config.end_size), config.padding_token, np.int32)
    row[0, : len(beg)] = np.frombuffer(beg, np.uint8)
    row[0, row.shape[1] - len(end) :] = np.frombuffer(end, np.uint8)
    return row


def small_label(first: bytes) -> str:
    """The label of a content too short for the model: "empty", "txt" where it is UTF-8, else "unknown"."""
    if not first:
        return "empty"
    try:
        first.decode("utf-8")
    except UnicodeDecodeError:
        return "unknown"
    return "txt"


def decide(scores: np.ndarray, config: MagikaConfig) -> Answer:
    """The answer for one row of `target_label`, float32 [labels]; below its threshold only "txt" or "unknown"."""
    best = int(np.argmax(scores))
    label, score = config.labels[best], float(scores[best])
    shown = config.overwrite_map.get(label, label)
    if score < config.thresholds.get(label, config.medium_confidence_threshold):
        # "unknown", which randombytes becomes, is no label of the model and no text.
        is_text = config.is_text[config.labels.index(shown)] if shown in config.labels else False
        shown = "txt" if is_text else "unknown"
    return Answer(shown, label, score)
