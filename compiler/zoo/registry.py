"""The names `edgert pull` knows, each with the module that holds its `MODEL`."""

from importlib import import_module

from compiler.zoo.model import ZooModel
from targets.errors import UsageError

MODULES = {
    "efficientnet-lite0": "efficientnet_lite0",
    "gemma3": "gemma3",
    "magika": "magika",
    "minilm": "minilm",
    "mobilenet-v2": "mobilenet_v2",
    "ppocr-det": "ppocr_det",
    "silero-vad": "silero_vad",
    "smollm2": "smollm2",
}


def find(name: str) -> ZooModel:
    """The model called `name`. Raises UsageError, which lists the names, for any other."""
    if name not in MODULES:
        raise UsageError(f"no model called {name!r}; known: {', '.join(MODULES)}")
    model: ZooModel = import_module(f"compiler.zoo.{MODULES[name]}").MODEL
    return model
