"""Attention over a cache on AMX: many rows in bfloat16 tiles; fewer, and heads that fill no tile, as on AVX-512."""

from __future__ import annotations

import numpy as np
import pytest

from targets.target import Target

from .cached_case import Case, run_case
from .kernel_case import _isas

AMX = _isas("x86-64-amx")


@pytest.mark.parametrize("target", AMX)
@pytest.mark.parametrize("rows", [31, 32, 33, 64])
def test_rows_after_a_past(target: Target, rows: int) -> None:
    """Ragged blocks of rows and of keys; rows of the cache that were never written hold NaN."""
    for past in (0, 1, 63, 500):
        run_case(Case(rows, past, heads=6, groups=2), target)


@pytest.mark.parametrize("target", AMX)
@pytest.mark.parametrize(("heads", "groups", "size"), [(4, 1, 256), (5, 1, 96), (4, 2, 80)])
def test_heads(target: Target, heads: int, groups: int, size: int) -> None:
    run_case(Case(35, 70, heads, groups, size, 0, 100, 0), target)


@pytest.mark.parametrize("target", AMX)
def test_factors_and_threads(target: Target) -> None:
    run_case(Case(33, 300, heads=6, groups=2, format="i8", spare=0), target, threads=2)


@pytest.mark.parametrize("target", AMX)
def test_rows_that_see_little(target: Target) -> None:
    run_case(Case(40, 0), target, np.eye(40, dtype=np.uint8))
    run_case(Case(40, 0), target, np.zeros((40, 40), np.uint8))
