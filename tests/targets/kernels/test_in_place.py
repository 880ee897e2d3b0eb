"""Results over operands: the same bits as apart, and refused for kernels that read what they have overwritten."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from tvm import tirx

from compiler.codegen.jit import buffer_of, compile_stages, run_stages, stage_arrays
from targets.kernels.conv2d_pad import padded
from targets.kernels.conv2d_shape import ConvShape
from targets.kernels.in_place import in_order, may_overwrite, over
from targets.kernels.nest import lower_nest
from targets.kernels.registry import Call, stages_for
from targets.kernels.stage import Leaf, Stage, Temp
from targets.kernels.tensor import Index, Tensor, compute

from .kernel_case import ISAS, leaf

every_isa = pytest.mark.parametrize("target", ISAS)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def nest(
    target, fn: Callable[..., tirx.Expr], shape: Sequence[Index], inputs: Sequence[Tensor]
) -> tuple[list[Stage], Tensor]:
    out = Tensor(tuple(shape), "float32", "out")
    return lower_nest([(compute(shape, "float32", fn, inputs), out)], target, "t"), out


def position(stage: Stage, wanted: Leaf) -> int:
    return next(i for i, operand in enumerate(stage.operands) if operand is wanted)


def allowed(stage: Stage, read: Leaf, written: Leaf) -> bool:
    return may_overwrite(stage, position(stage, read), position(stage, written))


def check(
    target, stage: Stage, feeds: dict[Tensor, np.ndarray], read: Tensor, out: Tensor, dims: dict | None = None
) -> None:
    """Runs the kernel with memory of its own for everything, then with the result over `read`."""
    assert allowed(stage, read, out)
    given = {id(t): a for t, a in feeds.items()}
    (apart,) = run_stages([stage], given, [out], target, dims)
    shared = over(stage, position(stage, read), position(stage, out))
    assert all(operand is not read for operand in shared.operands)
    (together,) = run_stages([shared], {**given, id(out): feeds[read]}, [out], target, dims)
    assert np.array_equal(apart, together) and not np.array_equal(apart, feeds[read])


@every_isa
@pytest.mark.parametrize("shape", [(1,), (15,), (1000,), (3, 5, 7), (1, 40, 33), (20000,)])
def test_element_wise(target, shape: tuple[int, ...]) -> None:
    a, b = numbers(*shape), numbers(*shape)[::-1].copy()
    A, B = leaf(a, "a"), leaf(b, "b")
    stages, out = nest(target, lambda *i: tirx.max(A(*i), B(*i)) * A(*i) + 1.0, shape, [A, B])
    for read in (A, B):
        check(target, stages[0], {A: a, B: b}, read, out)


@every_isa
@pytest.mark.parametrize("seq", [1, 13, 64])
def test_symbolic_rows(target, seq: int) -> None:
    n = tirx.Var("n", "int64")
    a, b = numbers(seq, 24), numbers(24)
    A, B = leaf(a, "a", (n, 24)), leaf(b, "b")
    stages, out = nest(target, lambda i, j: A(i, j) * B(j) - B(j), (n, 24), [A, B])
    check(target, stages[0], {A: a, B: b}, A, out, {"n": seq})


@every_isa
def test_elements_that_others_read_too(target) -> None:
    a = numbers(24, 24)
    A = leaf(a, "a")
    b = numbers(24)
    B = leaf(b, "b")
    cases: list[Callable[..., tirx.Expr]] = [
        lambda i, j: A(i, j) + A(j, i),
        lambda i, j: A(j, i),
        lambda i, j: A(i, 23 - j) * 2.0,
        lambda i, j: A(i, j) + A(i, tirx.max(j - 1, 0)),
        lambda i, j: A(i, j) + A(i, 0),
        lambda i, j: tirx.if_then_else(j > 0, A(i, j - 1), 0.0),
    ]
    for fn in cases:
        stages, out = nest(target, fn, (24, 24), [A])
        assert not allowed(stages[-1], A, out)
    stages, out = nest(target, lambda i, j: A(i, j) + B(j), (24, 24), [A, B])
    assert allowed(stages[0], A, out) and not allowed(stages[0], B, out)


def residual(
    op: str, attrs: dict, x: Tensor, w: Tensor, r: Tensor, target, config: dict[str, int] | None = None
) -> tuple[Stage, Tensor]:
    acc, out = Tensor(r.shape, "float32", "acc"), Tensor(r.shape, "float32", "result")
    final = compute(r.shape, "float32", lambda *i: tirx.max(acc(*i) + r(*i), tirx.const(0.0, "float32")), [acc, r])
    stages = stages_for(Call(op, attrs, [x, w], [acc], final, [out], config or {}), target)
    assert stages is not None and len(stages) == 1, op
    return stages[0], out


@every_isa
@pytest.mark.parametrize(
    ("shape", "cols", "kernel"),
    [((1, 9, 7, 8), 8, 3), ((1, 17, 33, 5), 40, 3), ((2, 6, 6, 16), 24, 1), ((1, 13, 11, 32), 70, 1)],
)
def test_residual_of_a_convolution(target, shape: tuple[int, ...], cols: int, kernel: int) -> None:
    x, w, r = numbers(*shape), numbers(cols, shape[3], kernel, kernel), numbers(*shape[:3], cols)
    X, W, R = leaf(x, "x"), leaf(w, "w", constant=True), leaf(r, "r")
    attrs = {"strides": [1, 1], "pads": [kernel // 2] * 4, "dilations": [1, 1], "group": 1}
    stage, out = residual("edgert.Conv2d", attrs, X, W, R, target)
    check(target, stage, {X: x, R: r}, R, out)
    if shape[3] == cols:
        assert not allowed(stage, X, out)


@every_isa
@pytest.mark.parametrize("rows", [1, 5, 130])
def test_residual_of_a_product(target, rows: int) -> None:
    m = tirx.Var("m", "int64")
    x, w, r = numbers(rows, 48), numbers(48, 48), numbers(rows, 48)
    X, W, R = leaf(x, "x", (m, 48)), leaf(w, "w", constant=True), leaf(r, "r", (m, 48))
    stage, out = residual("edgert.Gemm", {}, X, W, R, target)
    check(target, stage, {X: x, R: r}, R, out, {"m": rows})
    assert not allowed(stage, X, out)


@every_isa
def test_kernels_that_may_store_twice_are_left_alone(target) -> None:
    x, w, r = numbers(1, 9, 9, 20), numbers(20, 1, 3, 3), numbers(1, 9, 9, 20)
    X, W, R = leaf(x, "x"), leaf(w, "w", constant=True), leaf(r, "r")
    attrs = {"strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1], "group": 20}
    stage, out = residual("edgert.Conv2d", attrs, X, W, R, target)
    assert not stage.once and not allowed(stage, R, out)


@every_isa
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    ("shape", "pads"),
    [
        ((1, 96, 96, 3), (0, 0, 1, 1)), ((1, 96, 96, 3), (0, 0, 2, 1)), ((1, 49, 10, 1), (4, 1, 5, 1)),
        ((3, 7, 5, 16), (1, 1, 1, 1)), ((2, 4, 9, 70), (0, 3, 0, 0)), ((1, 5, 5, 40), (2, 0, 2, 5)),
    ],
)  # fmt: skip
def test_padded_over_the_image(target, shape: tuple[int, ...], pads: tuple[int, ...], dtype: str) -> None:
    n, height, width, channels = shape
    x = np.random.default_rng(1).integers(1, 255, shape).astype(dtype)
    X, Z = leaf(x, "x"), leaf(np.full((1,), 7, dtype), "z")
    s = ConvShape(n, height, width, channels, height, width, channels, (1, 1), (1, 1), pads, (1, 1), 1)
    stage, buffer, _ = padded(X, s, target, Z)
    assert stage.slide is not None
    (apart,) = run_stages([stage], {id(X): x, id(Z): np.full((1,), 7, dtype)}, [buffer], target)
    wide = ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0))
    assert np.array_equal(apart, np.pad(x, wide, constant_values=7))

    first = stage.slide.at
    assert first % 64 == 0
    room = buffer_of(Temp((max(apart.nbytes, first + x.nbytes),), "uint8"))
    room[first : first + x.nbytes] = x.reshape(-1).view(np.uint8)
    shared = in_order(stage)
    arrays = stage_arrays([shared], {id(Z): np.full((1,), 7, dtype)}, [buffer], {})
    arrays |= {id(X): room[first:], id(buffer): room}
    compile_stages([shared], target)(arrays, {})()
    assert np.array_equal(room[: apart.nbytes], apart.reshape(-1).view(np.uint8))
