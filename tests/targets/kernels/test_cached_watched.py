"""A cache that keeps the latest queries: they are there, and nothing else differs from float16's."""

from __future__ import annotations

import numpy as np
import pytest

from targets.kernels.cached_attention_watched import WATCHED
from targets.target import Target

from .cached_case import HALF, Case, arrays_of, call_of, prepare, rope
from .kernel_case import ISAS

CASE = {"heads": 6, "groups": 2, "interleaved": 0}


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize(("rows", "past"), [(1, 0), (5, 30), (40, 70)])
def test_the_latest_queries(target: Target, rows: int, past: int) -> None:
    results = {}
    for form in ("f16", "f16q"):
        case = Case(rows, past, format="f16", **CASE)
        arrays = arrays_of(case, None, None)
        if form == "f16q":
            arrays["queries"] = np.full((2, 1, 2, WATCHED * 3, 64), 7, np.float16)
        case = Case(rows, past, format=form, **CASE)
        stages, leaves, outputs = call_of(target, arrays, case, {})
        call, made = prepare(stages, leaves, outputs, arrays, target, {})
        call()
        results[form] = [made[id(t)] for t in outputs]
    for one, other in zip(results["f16"], results["f16q"], strict=False):
        np.testing.assert_array_equal(other.view(np.uint8), one.view(np.uint8))
    found = results["f16q"][2]
    assert (found[0] == 7).all(), "another layer's"
    turned = rope(arrays["q"].reshape(rows, -1, 64), *(arrays[n] for n in ("positions", "cos", "sin")), 0) * 64**-0.5
    expected = np.full(found[1].shape, 7, np.float64)
    for i in range(max(0, rows - WATCHED), rows):
        slot = (past + i) % WATCHED * 3
        expected[0, :, slot : slot + 3] = turned[i].reshape(2, 3, 64)
    # rounded to float16 once
    np.testing.assert_allclose(found[1], expected, rtol=HALF * 1.01, atol=1e-6)
