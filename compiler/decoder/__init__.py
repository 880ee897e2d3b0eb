"""Decoder-only language models: their configuration as data, opened from GGUF, written as standard ONNX."""

from compiler.decoder.config import Decoder, Rope
from compiler.decoder.opening import Opened, open_gguf

__all__ = ["Decoder", "Opened", "Rope", "open_gguf"]
