"""Every layer's window and rotation out of GGUF metadata."""

from collections.abc import Mapping
from dataclasses import replace

from compiler.decoder.architectures import Architecture
from compiler.decoder.config import Rope
from compiler.decoder.metadata import Numbers
from compiler.gguf import Tensor

_SCALINGS = ("none", "linear", "longrope")


def read_ropes(
    tensors: Mapping[str, Tensor], family: Architecture, numbers: Numbers, layers: int, head: int, context: int
) -> tuple[tuple[int | None, ...], tuple[Rope, ...]]:
    """Windows and rotations, one a layer; what is not known becomes a fault of `numbers`."""
    window = numbers.count("attention.sliding_window") if numbers.given("attention.sliding_window") else None
    period = numbers.count("attention.sliding_window_pattern", family.window_period)
    sees_all = [window is None or period > 1 and index % period == period - 1 for index in range(layers)]
    everywhere = Rope(
        theta=numbers.real("rope.freq_base", 10000.0),
        dims=numbers.count("rope.dimension_count", head),
        interleaved=family.interleaved_rope,
        scale=_scale(numbers),
        factors=None,
        magnitude=numbers.real("rope.scaling.attn_factor", 1.0),
    )
    if everywhere.dims % 2 or everywhere.dims > head:
        numbers.faults.append(f"{everywhere.dims} rotated elements in heads of {head}")
        return (window,) * layers, (everywhere,) * layers
    local = everywhere
    if family.default_window_theta is not None:
        theta = numbers.real("rope.freq_base_swa", family.default_window_theta)
        local = Rope(theta, everywhere.dims, everywhere.interleaved)
    else:
        factors = _factors(tensors, numbers, everywhere.dims // 2, context)
        everywhere = local = replace(everywhere, factors=factors)
    windows = tuple(None if all_ else window for all_ in sees_all)
    return windows, tuple(everywhere if all_ else local for all_ in sees_all)


def _scale(numbers: Numbers) -> float:
    """What positions are multiplied by."""
    kind, factor = numbers.value("rope.scaling.type"), numbers.real("rope.scaling.factor", 1.0)
    if kind is None:
        return 1.0 / numbers.real("rope.scale_linear", 1.0)
    if not isinstance(kind, str) or kind not in _SCALINGS and factor != 1.0:
        numbers.faults.append(f"rotation scaled by the method {str(kind)[:60]!r}")
        return 1.0
    return 1.0 / factor if kind == "linear" else 1.0


def _factors(tensors: Mapping[str, Tensor], numbers: Numbers, pairs: int, context: int) -> tuple[float, ...] | None:
    """Llama 3's factors, or LongRoPE's for the context (Ding et al. 2024, arXiv:2402.13753)."""
    original = numbers.count("rope.scaling.original_context_length", context)
    length = "long" if context > original else "short"
    chosen = next((n for n in ("rope_freqs.weight", f"rope_factors_{length}.weight") if n in tensors), None)
    if chosen is None:
        return None
    if tensors[chosen].shape != (pairs,):
        numbers.faults.append(f"tensor {chosen} is {list(tensors[chosen].shape)}, expected {[pairs]}")
        return None
    factors = tensors[chosen].numpy()
    if not (factors > 0).all():
        numbers.faults.append(f"tensor {chosen} holds factors that are not positive")
    return tuple(float(factor) for factor in factors)
