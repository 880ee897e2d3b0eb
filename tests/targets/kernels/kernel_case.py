"""Builds a call, runs its stages in process and gives the result; the instruction sets this machine can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from compiler.codegen.jit import run_stages
from targets import all_targets, host_features
from targets.kernels.registry import Call, stages_for
from targets.kernels.tensor import Index, Tensor
from targets.target import Target

from .emulated import device, run_emulated

EPS = float(np.finfo(np.float32).eps)


def _isas(*names: str) -> list:
    return [
        pytest.param(
            target,
            id=name,
            marks=pytest.mark.skipif(
                not host_features() >= set(target.features), reason=f"this CPU lacks what {name} needs"
            ),
        )
        for name, target in sorted(all_targets().items())
        if name in names
    ]


ISAS = _isas("x86-64-avx2", "x86-64-avx512")
# every way to sum products of bytes: with and without VNNI, in both widths; and plain arithmetic, on any machine
BYTE_ISAS = [
    *_isas("x86-64-avx2", "x86-64-avxvnni", "x86-64-avx512", "x86-64-avx512vnni", "x86-64-amx"),
    pytest.param(replace(all_targets()["x86-64-avx2"], dot="portable"), id="portable"),
]

# 64-bit Arm, emulated: without dot products, with those of signed bytes, and with i8mm
ARM_ISAS = [
    pytest.param(
        all_targets()[name],
        id=name,
        marks=[
            pytest.mark.apt,
            pytest.mark.skipif(
                bool(device(all_targets()[name]).missing()), reason="no qemu-aarch64 (apt: qemu-user-static)"
            ),
        ],
    )
    for name in ("aarch64", "cortex-a76", "cortex-x2")
]


def leaf(array: np.ndarray, name: str, shape: Sequence[Index] | None = None, constant: bool = False) -> Tensor:
    """A graph value that holds `array`; its shape may be given with symbolic dimensions."""
    data = (lambda: array) if constant else None
    return Tensor(tuple(array.shape if shape is None else shape), str(array.dtype), name, data=data)


def runner_for(target: Target) -> Callable[..., list[np.ndarray]]:
    """compiler.codegen.jit's run_stages, or what does the same in an emulator."""
    return run_emulated if target.triple.startswith("aarch64") else run_stages


def run(
    op: str, attrs: dict, inputs: Sequence[Tensor], out_shape: Sequence[Index], feeds: Mapping[Tensor, np.ndarray],
    target: Target,
    tail: Callable[[Tensor], Tensor] | None = None, dims: Mapping[str, int] | None = None,
    config: dict[str, int] | None = None, dtype: str = "float32",
) -> np.ndarray:  # fmt: skip
    """What the template of `op` computes on the fed arrays; `dtype`: what it sums in."""
    out = Tensor(tuple(out_shape), dtype, "acc")
    final = out if tail is None else tail(out)
    result = Tensor(tuple(out_shape), final.dtype, "result")
    call = Call(op, attrs, list(inputs), [out], final, [result], config or {})
    stages = stages_for(call, target)
    assert stages is not None, f"{op}: no template takes it"
    (array,) = runner_for(target)(stages, {id(t): a for t, a in feeds.items()}, [result], target, dims)
    return array


def assert_close(got: np.ndarray, want: np.ndarray, terms: np.ndarray | float) -> None:
    """Sums of products differ from the exact value by at most eps times the sum of the absolute products, and rounding.

    `terms`: that sum of absolute products, element by element (or its largest). A chain of n additions may err n times
    as much, but its roundings are random: their sum grows with the square root of n, so 8 eps holds to many thousands.
    """
    assert got.shape == want.shape
    bound = 8 * EPS * np.maximum(np.asarray(terms), 1.0)
    assert (np.abs(got - want) <= bound).all(), f"largest error {np.abs(got - want).max()}"
