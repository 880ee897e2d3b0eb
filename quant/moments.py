"""What the inputs of products look like on calibration data: each feature's size, and how features go together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx

from quant.contract import Progress
from quant.data import Samples
from quant.taps import Taps

_AT_ONCE = 1 << 28  # bytes of XᵀX kept in one pass over the samples; more layers mean more passes


@dataclass
class Moments:
    """Of a value x [.., K], all its rows together: `largest` |x| and `mean_sizes` of |x| by feature [K], and `hessian`,
    the mean of xᵀx [K, K] (only its diagonal is right where it was not asked for)."""

    largest: np.ndarray
    mean_sizes: np.ndarray
    hessian: np.ndarray

    @property
    def mean_squares(self) -> np.ndarray:
        """Mean x² by feature, float32 [K]."""
        return np.ascontiguousarray(np.diag(self.hessian), np.float32)

    def scaled(self, scale: np.ndarray) -> Moments:
        """The same of x / scale, `scale` [K] positive."""
        return Moments(self.largest / scale, self.mean_sizes / scale, self.hessian / np.outer(scale, scale))


class _Sums:
    """Sums over the rows seen so far."""

    def __init__(self, products: bool) -> None:
        self.rows, self.products = 0, products
        self.largest = self.sizes = self.hessian = np.zeros(0)

    def add(self, x: np.ndarray) -> None:
        rows = x.reshape(-1, x.shape[-1])
        if not self.rows:
            k = rows.shape[1]
            self.largest, self.sizes = np.zeros(k), np.zeros(k)
            self.hessian = np.zeros((k, k) if self.products else k)
        self.rows += len(rows)
        size = np.abs(rows)
        self.largest = np.maximum(self.largest, size.max(axis=0, initial=0))
        self.sizes += size.sum(axis=0, dtype=np.float64)
        self.hessian += rows.T @ rows if self.products else np.einsum("rk,rk->k", rows, rows)

    def moments(self) -> Moments:
        n = max(self.rows, 1)
        hessian = self.hessian if self.products else np.diag(self.hessian)
        return Moments(self.largest, self.sizes / n, hessian / n)


def collect(
    model: onnx.ModelProto,
    values: Iterable[str],
    samples: Samples,
    progress: Progress | None = None,
    products: bool = True,
) -> dict[str, Moments]:
    """Run the model on every sample and sum up the named float32 values; without `products` only the diagonal of XᵀX.

    Walks the samples once, or several times where the sums would take more than 256 MiB. Values no sample reaches
    (nothing in them) have zeros throughout.
    """
    inputs = {value.name for value in model.graph.input}
    result: dict[str, Moments] = {}
    for names in _passes(model, list(dict.fromkeys(values)), products):
        asked = [name for name in names if name not in inputs]
        taps = Taps(model, asked) if asked else None
        sums = {name: _Sums(products) for name in names}
        for done, sample in enumerate(samples):
            if progress:
                progress("activations", done, None)
            got = {**sample, **(taps.run(sample) if taps else {})}
            for name in names:
                sums[name].add(got[name])
        result.update({name: each.moments() for name, each in sums.items()})
    return result


def _passes(model: onnx.ModelProto, values: list[str], products: bool) -> list[list[str]]:
    """The values in lots whose sums fit into memory together."""
    widths = {v.name: v.type.tensor_type.shape.dim[-1].dim_value for v in _typed(model) if v.type.tensor_type.shape.dim}
    lots: list[list[str]] = [[]]
    room = _AT_ONCE
    for name in values:
        need = 8 * max(widths.get(name, 0), 1) ** (2 if products else 1)
        if lots[-1] and need > room:
            lots.append([])
            room = _AT_ONCE
        lots[-1].append(name)
        room -= need
    return [lot for lot in lots if lot]


def _typed(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.value_info, *model.graph.output]
