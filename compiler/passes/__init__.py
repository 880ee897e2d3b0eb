"""The graph passes, in the order they run. Each is a module with `run(edit: Edit, target: Target) -> bool`: changed?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from compiler.debug import Dump
from compiler.frontend.facts import Facts
from compiler.verify import verify
from targets.target import Target

from . import (
    attention,
    blocked,
    byte_softmax,
    common_subexpressions,
    dead_code,
    dynamic_layout,
    fixed_requantize,
    fold_affine,
    fold_affine_ahead,
    fold_padding,
    gelu,
    gelu_for_bytes,
    hardswish,
    identities,
    integer,
    integer_attention,
    integer_matmul,
    integer_products,
    integer_recurrent,
    layer_norm,
    layout,
    leading_axes,
    matmul,
    merge_views,
    one_hot,
    outer_products,
    pixel_shuffle,
    pre_gate,
    quantized_adds,
    quantized_moves,
    row_codes,
    rows,
    sink_views,
    spell_quantized,
    sums,
    swish,
    table_rows,
    tables,
    tiles,
    transposes,
    unsigned,
)
from .edit import Edit

Pass = Callable[[Edit, Target], bool]

# What each phase leaves true, the next relies on.
PHASES: list[tuple[str, list[Pass]]] = [
    # nothing computed twice, no node that does nothing; what works on one axis works along rows of images
    ("clean", [common_subexpressions.run, blocked.run, row_codes.run, identities.run, rows.run, merge_views.run]),
    # what quantized models say with QuantizeLinear and DequantizeLinear, in one form
    ("quantized", [spell_quantized.run, quantized_moves.run, unsigned.run]),
    # compound operators spelled out by exporters become one node each (ONNX's own where there is one)
    ("patterns", [gelu.run, hardswish.run, swish.run, layer_norm.run, one_hot.run, tables.run, pre_gate.run]),
    # what is left in an order that stores less and fuses more
    ("order", [sums.run, outer_products.run, sink_views.run]),
    # batch norm, scales and biases inside the weights; padding inside the convolution
    ("fold", [fold_padding.run, fold_affine.run, fold_affine_ahead.run, pixel_shuffle.run]),
    # matrix products by what the kernels take: constant right side (packed), or batched
    ("matmul", [matmul.run, leading_axes.run, merge_views.run, attention.run]),
    # convolutions and pools on NHWC, transposes only at the borders
    ("layout", [layout.run, dynamic_layout.run, transposes.run, merge_views.run, common_subexpressions.run]),
    # between DequantizeLinear and QuantizeLinear: integer kernels
    (
        "integer",
        [
            quantized_moves.run,
            quantized_adds.run,
            integer_attention.run,
            integer_matmul.run,
            gelu_for_bytes.run,
            integer.run,
            integer_products.run,
            integer_recurrent.run,
            byte_softmax.run,
            fixed_requantize.run,
        ],
    ),
    # weights of few bits that are left, for kernels that unpack them; and what that leaves of transposes
    ("weights", [blocked.late, transposes.run, merge_views.run, table_rows.run, tiles.run]),
]


def run_passes(
    model: ir.Model, facts: Facts, target: Target, dump: Dump, last: Sequence[Pass] = ()
) -> tuple[ir.Model, Facts]:
    """Runs every phase, and what is asked for `last`; the verifier checks the graph after each.

    Dead nodes go after every pass: one that reads a value would hide from the next pass that the value has one reader.
    """
    edit = Edit(model, facts)
    verify(model, facts, "the front end")
    dead_code.run(edit, target)
    for i, (name, passes) in enumerate([*PHASES, ("last", [*last])]):
        for run in passes:
            run(edit, target)
            edit.complete()
            dead_code.run(edit, target)
        verify(model, facts, f"passes/{name}")
        dump.graph(f"2-{i}-{name}", model, facts)
    return model, facts
