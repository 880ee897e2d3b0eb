"""Every quantization scheme, as data. A new one is an entry here and, if no rewriter fits, a module with `rewrite`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFormat:
    """How constant weights are stored.

    `dtype`: the stored code (`int8`, `int4`, `uint4`, `nf4`, `codebook`); `per`: what shares one scale (`channel` is an
    output channel, `block` is `group` values along the reduced axis); symmetric formats have no zero point.
    """

    dtype: str
    bits: int
    per: str = "channel"
    group: int = 0
    symmetric: bool = True


@dataclass(frozen=True)
class ActivationFormat:
    """How activations are quantized: `static` ranges come from calibration, the others are found as the model runs.

    `per`: `tensor`, `row` (all but the last axis) or `block` (`group` values along the last axis).
    """

    dtype: str
    symmetric: bool = False
    static: bool = True
    per: str = "tensor"
    group: int = 0


@dataclass(frozen=True)
class Scheme:
    """One way to quantize a model. No `weights` (auto): decided layer by layer. No `activations`: they stay float32.

    `rewrite` names the function that does it, `module:function` (see `quant.contract.Rewriter`); `opset` is the lowest
    that has the operators it writes; `calibrated` says that it needs calibration data.
    """

    name: str
    about: str
    rewrite: str
    weights: WeightFormat | None = None
    activations: ActivationFormat | None = None
    opset: int = 13
    calibrated: bool = False


_INT8 = WeightFormat("int8", 8)
_ROWS = ActivationFormat("int8", symmetric=True, static=False, per="row")


def _weight_only(dtype: str, group: int) -> Scheme:
    name = dtype if group == 32 else f"{dtype}-g{group}"
    sign = "symmetric" if dtype == "int4" else "with zero points"
    return Scheme(
        name,
        f"4-bit weights {sign} in groups of {group}, float32 arithmetic",
        "quant.weight_only:rewrite",
        WeightFormat(dtype, 4, "block", group, dtype == "int4"),
        opset=21,
    )


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            "int8",
            "8-bit weights per output channel, 8-bit activations with calibrated ranges",
            "quant.static:rewrite",
            _INT8,
            ActivationFormat("uint8"),
            calibrated=True,
        ),
        Scheme(
            "int8-dynamic",
            "8-bit weights per output channel, 8-bit activations with a range of each row found as the model runs",
            "quant.dynamic:rewrite",
            _INT8,
            _ROWS,
            opset=21,
        ),
        Scheme(
            "int16x8",
            "8-bit weights per output channel, 16-bit symmetric activations with calibrated ranges",
            "quant.static:rewrite",
            _INT8,
            ActivationFormat("int16", symmetric=True),
            opset=21,
            calibrated=True,
        ),
        *(_weight_only(dtype, group) for dtype in ("int4", "uint4") for group in (32, 64, 128)),
        Scheme(
            "int4x8",
            "4-bit weights in groups of 32, activations made 8-bit in blocks of 32 as the model runs",
            "quant.int4x8:rewrite",
            WeightFormat("int4", 4, "block", 32),
            ActivationFormat("int8", symmetric=True, static=False, per="block", group=32),
            opset=21,
        ),
        Scheme(
            "nf4",
            "4-bit NormalFloat weights in groups of 64 with double quantization (QLoRA), float32 arithmetic",
            "quant.nf4:rewrite",
            WeightFormat("nf4", 4, "block", 64),
            opset=21,
        ),
        Scheme(
            "int8-outlier",
            "8-bit rows by 8-bit columns, input features with outliers kept in float32 (LLM.int8())",
            "quant.outlier:rewrite",
            _INT8,
            _ROWS,
            opset=21,
            calibrated=True,
        ),
        Scheme(
            "codebook",
            "k-means codebooks of 16 values over groups of weight rows, float32 arithmetic",
            "quant.codebook:rewrite",
            WeightFormat("codebook", 4, "block"),
            opset=21,
        ),
        Scheme(
            "auto",
            "the cheapest scheme for each layer that keeps the whole model within a bound",
            "quant.auto:rewrite",
            opset=21,
            calibrated=True,
        ),
    )
}
