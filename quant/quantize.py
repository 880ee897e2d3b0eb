"""The front door: a float32 model, a scheme and calibration data in; a quantized ONNX file out."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.contract import Layer, Options, Progress
from quant.schemes import SCHEMES, Scheme
from targets.errors import UsageError

if TYPE_CHECKING:
    import onnx

    from quant.data import Reader, Samples

# Steps around the rewriter, in this order: the option that asks for one, the function that does it.
BEFORE = {"equalize": "quant.equalize:equalize", "smooth": "quant.smooth:smooth"}
AFTER = {"bias_correction": "quant.bias_correction:correct"}


@dataclass
class Quantized:
    """What `quantize` did: the models before (prepared, float32) and after, what became of each layer, and the bytes
    of all constants. `ready` is the float32 model that was rewritten, after equalisation and smoothing: its values in
    between are those to compare the quantized model's with."""

    scheme: str
    float_model: onnx.ModelProto
    ready: onnx.ModelProto
    model: onnx.ModelProto
    layers: list[Layer]
    samples: Samples | None
    bytes_before: int = 0
    bytes_after: int = 0
    notes: list[str] = field(default_factory=list)


def resolve(name: str) -> Any:
    """The function that `module:function` names; a rewriter's module is imported when first used."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def scheme_named(name: str) -> Scheme:
    """The scheme of that name. Raises UsageError listing all names."""
    if name not in SCHEMES:
        raise UsageError(f"no scheme is called {name!r}; there are {', '.join(SCHEMES)}")
    return SCHEMES[name]


def quantize(
    model: str | Path | onnx.ModelProto,
    out: str | Path | None = None,
    scheme: str | Scheme = "int8",
    samples: str | Path | Iterable[dict[str, np.ndarray]] | Samples | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
    read: Reader | None = None,
) -> Quantized:
    """Quantize `model` and write it to `out` (nothing is written without one).

    `samples`: an .npz file, a folder with one file a sample, or any iterable of {input name: array}; `read` gives the
    array of a file that is not .npy or .npz (see `quant.data`). Raises UsageError for an unknown scheme or bad
    calibration data, UnsupportedModel for a model that ONNX Runtime cannot load.
    """
    from quant.data import open_samples
    from quant.model import prepare, save, weight_bytes

    options = options or Options()
    scheme = scheme if isinstance(scheme, Scheme) else scheme_named(scheme)
    if scheme.calibrated and samples is None:
        raise UsageError(f"the scheme {scheme.name} needs calibration data: give an .npz file or a folder of samples")
    prepared = prepare(model, scheme.opset)
    opened = None if samples is None else open_samples(prepared, samples, read, options.limit)
    ready = prepared
    for option, step in BEFORE.items():
        if getattr(options, option) not in (False, None):
            ready = resolve(step)(_copy(ready), scheme, opened, options)
    done = resolve(scheme.rewrite)(_copy(ready), scheme, opened, options, progress)
    result = done.model
    static = scheme.activations is not None and scheme.activations.static
    for option, step in AFTER.items():
        asked = getattr(options, option)
        if static if asked is None else asked:
            result = resolve(step)(ready, result, opened, options)
    report = Quantized(scheme.name, prepared, ready, result, done.layers, opened)
    report.bytes_before, report.bytes_after = weight_bytes(prepared), weight_bytes(result)
    if out is not None:
        save(result, out)
    return report


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
