"""What the front door, the rewriters and the report hand to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from quant.data import Samples
    from quant.schemes import Scheme

# Called as progress(what is being done, steps done, steps in all or None).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Options:
    """Everything that steers quantization besides the scheme.

    `observer`: a name in `quant.observers.OBSERVERS`, or `auto`, which takes entropy about convolutions and mse about
    products of matrices; `percentile`: for the observer of that name, in percent.
    `keep`: names of nodes that stay float32. `only`: if given, all other nodes stay float32.
    `equalize`: cross-layer equalisation first; `smooth`: SmoothQuant's alpha (0 to 1) first, None leaves it out.
    `bias_correction`: shift biases by the mean error afterwards; None does so for static schemes.
    `rounding`: how 4-bit weights are rounded, `nearest`, `gptq` or `awq`; None: `gptq` where there are samples, else
    `nearest`. `group`: overrides the scheme's group size. `outlier`: the magnitude from which an input feature counts
    as an outlier (LLM.int8() has 6). `embeddings`: whether lookup tables (Gather) are quantized too. `seed`: for
    everything drawn at random. `limit`: use at most so many calibration samples. `auto`: more settings for the scheme
    of that name, by name
    (`max_drop`, `min_sqnr`, `labels`).
    """

    observer: str = "auto"
    percentile: float = 99.99
    keep: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    equalize: bool = False
    smooth: float | None = None
    bias_correction: bool | None = None
    rounding: str | None = None
    group: int | None = None
    outlier: float = 6.0
    embeddings: bool = True
    seed: int = 0
    limit: int | None = None
    auto: dict[str, object] = field(default_factory=dict)

    def takes(self, node: str) -> bool:
        """Whether the node of this name is to be quantized."""
        return node not in self.keep and (self.only is None or node in self.only)


@dataclass(frozen=True)
class Layer:
    """What became of one node: the scheme it got, or None and the reason it stayed float32."""

    node: str
    op: str
    scheme: str | None
    reason: str = ""


@dataclass
class Rewritten:
    """A rewriter's result: the new model, and each layer it considered in the model's order."""

    model: onnx.ModelProto
    layers: list[Layer]


# rewrite(model made by quant.model.prepare, scheme, calibration samples or None, options, progress). The model given
# may be changed in place. A node that cannot be quantized stays as it is and is listed with the reason.
Rewriter = Callable[["onnx.ModelProto", "Scheme", "Samples | None", Options, "Progress | None"], Rewritten]
# Before rewriting: (model, scheme, samples, options) -> a float32 model with the same answers, easier to quantize.
Before = Callable[["onnx.ModelProto", "Scheme", "Samples | None", Options], "onnx.ModelProto"]
# Afterwards: (float32 model, quantized model, samples, options) -> a quantized model nearer to the first.
After = Callable[["onnx.ModelProto", "onnx.ModelProto", "Samples | None", Options], "onnx.ModelProto"]
