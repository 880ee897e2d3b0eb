"""What to tell somebody whose operator is not supported: why, and what to use instead."""

from __future__ import annotations

import difflib

import onnx
import onnx_ir as ir

from compiler.ops.registry import REGISTRY

CONTROL = ("control flow that depends on run-time values", "an If whose condition is constant, or the body unrolled")
SEQUENCES = "tensors in place of sequences: Concat and Split with fixed counts"
HINTS = {
    "If": CONTROL,
    "Loop": CONTROL,
    "Scan": CONTROL,
    "SequenceConstruct": ("sequences of tensors", SEQUENCES),
    "SequenceEmpty": ("sequences of tensors", SEQUENCES),
    "SequenceInsert": ("sequences of tensors", SEQUENCES),
    "SequenceErase": ("sequences of tensors", SEQUENCES),
    "SequenceAt": ("sequences of tensors", SEQUENCES),
    "SequenceLength": ("sequences of tensors", SEQUENCES),
    "SequenceMap": ("sequences of tensors", SEQUENCES),
    "ConcatFromSequence": ("sequences of tensors", "Concat"),
    "SplitToSequence": ("sequences of tensors", "Split"),
    "ReverseSequence": ("no lowering", "Slice with a negative step"),
    "Optional": ("optional values", "the value itself"),
    "OptionalGetElement": ("optional values", "the value itself"),
    "OptionalHasElement": ("optional values", "the value itself"),
    "StringNormalizer": ("strings", "tokenize before the model"),
    "StringConcat": ("strings", "tokenize before the model"),
    "StringSplit": ("strings", "tokenize before the model"),
    "RegexFullMatch": ("strings", "tokenize before the model"),
    "TfIdfVectorizer": ("no lowering", "features computed before the model"),
}


def nearest_form(node: ir.Node, domain: str, version: int) -> tuple[str, str]:
    """The reason an operator without a handler is refused, and the nearest form that compiles ('' for none)."""
    registered = REGISTRY.get((domain, node.op_type), [])
    if registered:
        return f"no lowering for opset {version}", f"{node.op_type} of opset {registered[0].since} or newer"
    if not domain and node.op_type in HINTS:
        return HINTS[node.op_type]
    if not domain and not node.overload and not onnx.defs.has(node.op_type, ""):
        close = difflib.get_close_matches(node.op_type, [name for d, name in REGISTRY if d == domain], 1, cutoff=0.8)
        return "no such ONNX operator", close[0] if close else ""
    return "no lowering", ""
