"""GGUF files: the header read strictly, the weights mapped, their bits in one form for every ggml type."""

from compiler.gguf.blocks import Blocks
from compiler.gguf.file import GgufFile, read_gguf
from compiler.gguf.tensor import Tensor
from compiler.gguf.types import TYPES, GgmlType

__all__ = ["TYPES", "Blocks", "GgmlType", "GgufFile", "Tensor", "read_gguf"]
