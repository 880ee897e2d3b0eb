"""What the tests of templates share: building a Call, running its stages, the instruction sets to try."""

import numpy as np
import pytest
from tvm import tirx

from compiler.codegen.jit import run_stages
from targets import all_targets, get_target, host_features
from targets.kernels.registry import Call, stages_for
from targets.kernels.tensor import Tensor, compute

ISAS = [t for t in all_targets().values() if t.name.startswith("x86-64")]
both_isas = pytest.mark.parametrize("isa", ISAS, ids=lambda t: t.name)


def leaf(array, name, shape=None, constant=False):
    """A leaf for an array; `shape` may hold symbolic dims."""
    t = Tensor(tuple(array.shape if shape is None else shape), str(array.dtype), name)
    if constant:
        t.data = lambda: array
    return t


def run_call(op, attrs, inputs, outputs, isa=None, tail=None, dims=None, wanted=None):
    """Runs the template for `op`.

    inputs: (leaf, array) pairs or None. outputs: (shape, dtype) of each output. tail: fn(value, indices) fused on,
    and its leaves as (fn, pairs). wanted: which outputs are asked for. None where no template takes the call.
    """
    target = isa or get_target()
    if not host_features() >= set(target.features):
        pytest.skip(f"this machine lacks {target.name}")
    outs = [Tensor(tuple(shape), dtype, f"o{i}") for i, (shape, dtype) in enumerate(outputs)]
    wanted = wanted or [True] * len(outs)
    fn, extra = tail or (None, [])
    final = outs[0]
    if fn is not None:
        first = outs[0]
        final = compute(first.shape, first.dtype, lambda *i: fn(first(*i), i), [first])
    results = [Tensor(o.shape, o.dtype, "r") if w else None for o, w in zip(outs, wanted, strict=True)]
    call = Call(op, attrs, [None if p is None else p[0] for p in inputs], outs, final, results)
    stages = stages_for(call, target)
    if stages is None:
        return None
    feeds = {id(p[0]): p[1] for p in [*inputs, *extra] if p is not None}
    got = run_stages(stages, feeds, [r for r in results if r is not None], target, dims)
    return got[0] if len(got) == 1 else got


def var(name):
    """A symbolic dimension."""
    return tirx.Var(name, "int64")


def rng(seed=3):
    """Numbers that are the same each time."""
    return np.random.default_rng(seed)
