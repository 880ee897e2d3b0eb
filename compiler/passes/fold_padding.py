"""A constant zero Pad of the spatial axes becomes the padding of the convolution that follows."""

from __future__ import annotations

import onnx_ir as ir

from targets.target import Target

from .edit import Edit


def run(edit: Edit, target: Target) -> bool:
    """Pads that cut (negative ones) or fill batch or channels stay."""
    changed = False
    for conv in edit.nodes("Conv"):
        source = conv.inputs[0]
        pad = source.producer() if source is not None else None
        if pad is None or pad.op_type != "Pad" or pad.domain or edit.attr(conv, "auto_pad", "NOTSET") != "NOTSET":
            continue
        amounts = _zero_pads(edit, pad)
        x = pad.inputs[0]
        if amounts is None or x is None:
            continue
        rank = len(edit.shape(x))
        begin, end = amounts[:rank], amounts[rank:]
        if any(begin[:2] + end[:2]) or min(amounts) < 0:
            continue
        own = list(edit.attr(conv, "pads", [0] * 2 * (rank - 2)))
        conv.attributes["pads"] = ir.AttrInt64s("pads", [a + b for a, b in zip(own, begin[2:] + end[2:], strict=True)])
        conv.replace_input_with(0, x)
        changed = True
    return changed


def _zero_pads(edit: Edit, pad: ir.Node) -> list[int] | None:
    """The pads of a Pad node that fills with zeros, at both ends of every axis; None for any other."""
    if edit.attr(pad, "mode", "constant") not in ("constant", b"constant"):
        return None
    given = edit.attr(pad, "pads")
    if given is None:
        value = edit.const(pad.inputs[1]) if len(pad.inputs) > 1 else None
        given = None if value is None else value.tolist()
        filled = pad.inputs[2] if len(pad.inputs) > 2 else None
        if filled is not None and edit.scalar(filled) != 0.0 or len(pad.inputs) > 3 and pad.inputs[3] is not None:
            return None
    elif edit.attr(pad, "value", 0.0) != 0.0:
        return None
    return None if given is None else [int(v) for v in given]
