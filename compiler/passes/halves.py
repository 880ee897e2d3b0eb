"""16-bit activations with 8-bit weights as two products of bytes, one for each half of an activation.

q = 256 high + low, so sum(q w) = 256 sum(high w) + sum(low w): exact in int32 each, where one sum of 16-bit products
would overflow after some hundred terms. Both halves are uint8; q counts from 0 (int16 is moved up by 32768).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .edit import Edit
from .quantization import Quantized

WIDE = ("int16", "uint16")
BASE = 256


def halves(edit: Edit, before: ir.Node, x: Quantized) -> list[tuple[Quantized, int]]:
    """The high and the low half of `x`, each with the weight it has in the sum; zero points likewise halved."""
    shift = 1 << 15 if x.dtype == "int16" else 0
    zero = int(x.zero.reshape(-1)[0]) + shift
    wide = edit.insert(before, "Cast", [x.q], {"to": int(ir.DataType.INT32)})
    if shift:
        wide = edit.insert(before, "Add", [wide, edit.constant("shift", np.array(shift, np.int32))])
    counted = edit.insert(before, "Cast", [wide], {"to": int(ir.DataType.UINT16)})
    eight = edit.constant("eight", np.array(8, np.uint16))
    upper = edit.insert(before, "BitShift", [counted, eight], {"direction": "RIGHT"})
    made = []
    for part, offset, weight in ((upper, zero // BASE, BASE), (counted, zero % BASE, 1)):
        q = edit.insert(before, "Cast", [part], {"to": int(ir.DataType.UINT8)})
        made.append((Quantized(q, x.scale, np.array([offset], np.int64), "uint8", x.axis), weight))
    return made
