"""Products with a model's weights: in integers where these have blocks, of rows that are quantized once for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from compiler.decoder.nodes import Nodes
from compiler.gguf import Tensor
from compiler.gguf.blocks import Blocks
from compiler.passes.edit import EDGERT

# Weights of an output layer from which on bounds from 5 of their bits find the likeliest token faster than from 6:
# those leave 10 to 20 times as many rows to look at (Gemma 10 to 50 panels of 16, SmolLM2 80 to 300 instead of 5).
LARGE = 64 << 20
ROW_BLOCK = 32  # activations that share a scale, as weights do


@dataclass(frozen=True)
class Rows:
    """What products read: rows as floats, where a weight is in floats, and as QuantizeRows gives them."""

    floats: ir.Value | None
    codes: tuple[ir.Value, ...] = ()  # codes, scales, offsets, and scaled sums where a weight has minima


class Products(Nodes):
    """Adds what reads weights."""

    head = ""  # the name of the output layer's

    def quantized(self, x: ir.Value, *readers: str) -> Rows:
        """Rows as floats, and as integers for the products with these weights: made once for all of them."""
        if not any(self.weights[reader].quantized for reader in readers):
            return Rows(x)
        return Rows(x, self.codes("QuantizeRows", [x], str(x.name), readers).codes)

    def codes(self, kind: str, inputs: list[ir.Value], stem: str, readers: Sequence[str], **attributes: Any) -> Rows:
        """A node with QuantizeRows's outputs, and of them what products with these weights take."""
        firsts = [_blocks(w, slice(0, 1)) for w in (self.weights[reader] for reader in readers) if w.quantized]
        sums = min([ROW_BLOCK, *(first.size for first in firsts if not _has_minimum(first))])
        if sums != ROW_BLOCK:
            attributes["sums"] = sums
        outputs = 4 if any(_has_minimum(first) for first in firsts) else 3
        name = f"{stem}.quantized"
        first = self.op(kind, inputs, name, EDGERT, outputs, block=ROW_BLOCK, **attributes)
        node = first.producer()
        assert node is not None
        for value, what in zip(node.outputs, ("codes", "scales", "offsets", "sums"), strict=False):
            value.name = f"{stem}.{what}"
        return Rows(None, tuple(node.outputs))

    def linears(self, x: Rows, names: Sequence[str], bias: bool = False) -> list[ir.Value]:
        """x times the transpose of each of these weights, and their biases; those in blocks as one operator."""
        joint = [name for name in names if self.weights[name].quantized]
        if len(joint) < 2:
            return [self.linear(x, name, bias=bias) for name in names]
        inputs: list[ir.Value | None] = list(x.codes[:2])
        lists: dict[str, list[int]] = {"bits": [], "size": [], "zero": []}
        for name in joint:
            operands, attributes = self.blocks(name)
            operands += [None] * (5 - len(operands))
            inputs += [self.sums(x, name), *operands, self.floats(f"{name}_bias") if bias else None]
            for key, values in lists.items():
                values.append(attributes[key])
        together = self.op("JointBlocks", inputs, f"{joint[0]}.joint", EDGERT, len(joint), **lists)
        node = together.producer()
        assert node is not None
        made = dict(zip(joint, node.outputs, strict=True))
        for name, value in made.items():
            value.name = f"{name}.out"
        return [made[name] if name in made else self.linear(x, name, bias=bias) for name in names]

    def linear(self, x: Rows, name: str, stem: str | None = None, bias: bool = False) -> ir.Value:
        """x times the weight's transpose; in integers where the weight has blocks."""
        stem = stem or f"{name}.out"
        if self.weights[name].quantized:
            operands, attributes = self.blocks(name)
            y = self.op("GemmBlocks", [*x.codes[:2], self.sums(x, name), *operands], stem, EDGERT, **attributes)
        else:
            y = self.op("Gemm", [x.floats, self.floats(name)], stem, transB=1)
        return self.op("Add", [y, self.floats(f"{name}_bias")], f"{stem}.biased") if bias else y

    def sums(self, x: Rows, name: str) -> ir.Value:
        """The rows' sums as a product with this weight wants them."""
        return x.codes[3 if _has_minimum(_blocks(self.weights[name], slice(0, 1))) else 2]

    def blocks(self, name: str) -> tuple[list[ir.Value | None], dict[str, Any]]:
        """A quantized weight's constants in the order of compiler/ops/block_codes.py, and that operator's attributes.

        Scales as they are stored: float16, or integers times float16 for 256 neighbours.
        """
        weight = self.weights[name]
        first = _blocks(weight, slice(0, 1))
        factors = (
            ("sub_scale", "sub_min", "super_scale", "super_min")
            if first.super_scale is not None
            else ("scale", "minimum")
        )

        def part(of: str) -> ir.Value | None:
            row = getattr(first, of)
            if row is None:
                return None
            dtype = np.float16 if row.dtype == np.float32 else row.dtype.type
            return self.lazy(
                f"{name}.{of}",
                dtype,
                (weight.shape[0], row.shape[1]),
                lambda: getattr(_blocks(weight), of).astype(dtype),
            )

        codes = self.lazy(f"{name}.codes", np.uint8, weight.shape, lambda: _blocks(weight).codes)
        operands = [codes, *(part(of) for of in factors)]
        while operands[-1] is None:
            operands.pop()
        attributes = {"bits": first.bits, "size": first.size, "zero": first.zero}
        if name == self.head and self.in_planes:
            attributes["planes"] = 3 if weight.shape[0] * weight.shape[1] >= LARGE else 2
        return operands, attributes

    @property
    def in_planes(self) -> bool:
        """Whether the output layer's weights are kept in two planes (targets/kernels/planes.py)."""
        if not self.weights[self.head].quantized:
            return False
        first = _blocks(self.weights[self.head], slice(0, 1))
        return (first.bits, first.size) == (8, 32) and not _has_minimum(first) and first.super_scale is None


def _has_minimum(blocks: Blocks) -> bool:
    return (blocks.minimum if blocks.super_scale is None else blocks.sub_min) is not None


def _blocks(weight: Tensor, rows: slice = slice(None)) -> Blocks:
    found = weight.blocks(rows)
    assert found is not None
    return found
