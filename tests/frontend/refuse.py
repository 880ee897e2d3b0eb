"""What every test of a refused model asks."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.frontend import load
from edgert.errors import EdgertError

from .models import model, node

WEIGHTS = np.arange(3000, dtype=np.float32)
ADD = [node("Add", "x w", "y")]


def small() -> onnx.ModelProto:
    return model(ADD, {"x": (3000,)}, constants={"w": WEIGHTS})


def refuse(path: Path, *words: str, error: type[EdgertError] = EdgertError) -> None:
    with pytest.raises(EdgertError) as caught:
        load(path)
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
