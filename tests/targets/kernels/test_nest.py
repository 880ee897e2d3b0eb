"""The generic nest against numpy: shapes with odd tails, broadcasting, every element type, reductions over any axes."""

import itertools

import numpy as np
import pytest
from tvm import tirx

from compiler.codegen.jit import run_stages
from targets import all_targets, get_target, host_features
from targets.kernels.nest import lower_nest
from targets.kernels.tensor import Tensor, as_expr, compute, reduce

RNG = np.random.default_rng(7)
ISAS = [t for t in all_targets().values() if t.name.startswith("x86-64")]
SHAPES = [(), (1,), (3,), (16,), (67,), (2, 3), (5, 1, 7), (4, 33), (3, 5, 64), (2, 3, 4, 5), (20000,), (3, 0, 2)]


@pytest.fixture(params=ISAS, ids=lambda t: t.name)
def isa(request):
    if not host_features() >= set(request.param.features):
        pytest.skip(f"this machine lacks {request.param.name}")
    return request.param


def random(shape, dtype):
    if dtype == "bool":
        return RNG.random(shape) < 0.5
    if "float" in dtype:
        return RNG.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return RNG.integers(info.min // 2, info.max // 2, shape, dtype=dtype, endpoint=True)


def run(expression, feeds, target=None, dims=None, name="t"):
    """The value of `expression` on `feeds`, pairs of leaf and array."""
    out = Tensor(expression.shape, expression.dtype, "out")
    stages = lower_nest([(expression, out)], target or get_target(), name)
    return run_stages(stages, {id(t): a for t, a in feeds}, [out], target or get_target(), dims)[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_elementwise_chain(shape, isa):
    x, y = Tensor(shape, "float32", "x"), Tensor(shape, "float32", "y")
    product = compute(shape, "float32", lambda *i: x(*i) * y(*i), [x, y])
    total = compute(shape, "float32", lambda *i: product(*i) + x(*i), [product, x])
    a, b = random(shape, "float32"), random(shape, "float32")
    # one rounding less where the multiply and the add fuse
    np.testing.assert_allclose(run(total, [(x, a), (y, b)], isa), a * b + a, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("small", [(64,), (1, 64), (5, 1), (3, 1, 1), (3, 5, 1), (1, 5, 64), ()], ids=str)
def test_broadcast(small, isa):
    shape = (3, 5, 64)
    x, s = Tensor(shape, "float32", "x"), Tensor(small, "float32", "s")
    skip = len(shape) - len(small)

    def at(*i):
        return x(*i) - s(*[0 if d == 1 else k for d, k in zip(small, i[skip:], strict=True)])

    a, b = random(shape, "float32"), random(small, "float32")
    np.testing.assert_array_equal(run(compute(shape, "float32", at, [x, s]), [(x, a), (s, b)], isa), a - b)


INTEGERS = [f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)]
FLOATS = ["float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_types(dtype, isa):
    shape = (3, 37)
    x, y = Tensor(shape, dtype, "x"), Tensor(shape, dtype, "y")
    value = compute(shape, dtype, lambda *i: x(*i) * x(*i) - tirx.Select(x(*i) > y(*i), x(*i), y(*i)), [x, y])
    a, b = random(shape, dtype), random(shape, dtype)
    want = a * a - np.where(a > b, a, b)
    tolerance = 8 * np.finfo(dtype).eps * np.abs(a).max() ** 2 if "float" in dtype else 0
    np.testing.assert_allclose(run(value, [(x, a), (y, b)], isa), want, rtol=0, atol=tolerance)


def test_bool(isa):
    shape = (5, 21)
    x, y = Tensor(shape, "float32", "x"), Tensor(shape, "bool", "y")
    less = compute(shape, "bool", lambda *i: x(*i) < as_expr(0.0), [x])
    both = compute(shape, "bool", lambda *i: tirx.Or(tirx.And(less(*i), y(*i)), tirx.Not(less(*i))), [less, y])
    a, b = random(shape, "float32"), random(shape, "bool")
    got = run(both, [(x, a), (y, b.view(np.uint8))], isa)
    np.testing.assert_array_equal(got.astype(bool), (a < 0) & b | ~(a < 0))


def test_cast_between_all_types():
    for source, to in itertools.product(["float16", "float32", "int8", "uint8", "int32", "int64", "bool"], repeat=2):
        x = Tensor((35,), source, "x")
        a = RNG.integers(0, 100, 35).astype(source)
        value = compute((35,), to, lambda i: x(i).astype(to), [x])  # noqa: B023
        got = run(value, [(x, a.view(np.uint8) if source == "bool" else a)])
        np.testing.assert_array_equal(got, a.astype(to), err_msg=f"{source} to {to}")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_transpose(order, isa):
    for shape in [(3, 5, 7), (16, 32, 48), (1, 20, 33), (2, 64, 3)]:
        x = Tensor(shape, "float32", "x")
        inverse = np.argsort(order)
        value = compute([shape[o] for o in order], "float32", lambda *i: x(*[i[k] for k in inverse]), [x])  # noqa: B023
        a = random(shape, "float32")
        np.testing.assert_array_equal(run(value, [(x, a)], isa), a.transpose(order))


def test_reshape_through_flat_indices(isa):
    x = Tensor((6, 35), "float32", "x")
    flat = lambda i, j, k: x((i * 70 + j * 7 + k) // 35, (i * 70 + j * 7 + k) % 35)  # noqa: E731
    a = random((6, 35), "float32")
    np.testing.assert_array_equal(run(compute((3, 10, 7), "float32", flat, [x]), [(x, a)], isa), a.reshape(3, 10, 7))


def test_tile_is_not_mistaken_for_contiguous(isa):
    x = Tensor((3, 4), "float32", "x")
    a = random((3, 4), "float32")
    value = compute((6, 8), "float32", lambda i, j: x(i % 3, j % 4), [x])
    np.testing.assert_array_equal(run(value, [(x, a)], isa), np.tile(a, (2, 2)))


def test_gather_and_guarded_reads(isa):
    x, k = Tensor((9, 20), "float32", "x"), Tensor((5,), "int64", "k")
    a, rows = random((9, 20), "float32"), np.array([8, 0, 3, 3, 1])
    np.testing.assert_array_equal(
        run(compute((5, 20), "float32", lambda i, j: x(k(i), j), [x, k]), [(x, a), (k, rows)], isa), a[rows]
    )
    padded = compute((11, 24), "float32", lambda i, j: tirx.if_then_else(
        tirx.all(i >= 1, i < 10, j >= 2, j < 22), x(i - 1, j - 2), as_expr(0.0)), [x])  # fmt: skip
    np.testing.assert_array_equal(run(padded, [(x, a)], isa), np.pad(a, ((1, 1), (2, 2))))
    square = compute((9, 20), "float32", lambda i, j: x(i, j) * x(i, j), [x])
    joined = compute(
        (9, 30), "float32", lambda i, j: tirx.if_then_else(j < 20, square(i, j), x(i, j - 20)), [square, x]
    )
    np.testing.assert_array_equal(run(joined, [(x, a)], isa), np.concatenate([a * a, a[:, :10]], 1))


def test_index_as_a_number(isa):
    value = compute((7, 9), "int64", lambda i, j: i * as_expr(100, "int64") + j, [])
    np.testing.assert_array_equal(run(value, [], isa), np.arange(7)[:, None] * 100 + np.arange(9))


def test_symbolic_dims(isa):
    n, m = tirx.Var("n", "int64"), tirx.Var("m", "int64")
    x, s = Tensor((n, m), "float32", "x"), Tensor((m,), "float32", "s")
    y = compute((n, m), "float32", lambda i, j: x(i, j) * s(j), [x, s])
    t = compute((m, n), "float32", lambda i, j: y(j, i), [y])
    for dims in [(1, 1), (3, 70), (33, 5), (0, 4), (2, 9001), (9001, 1)]:
        a, b = random(dims, "float32"), random(dims[1:], "float32")
        feeds, at = [(x, a), (s, b)], {"n": dims[0], "m": dims[1]}
        np.testing.assert_array_equal(run(y, feeds, isa, at), a * b)
        np.testing.assert_array_equal(run(t, feeds, isa, at), (a * b).T)
        want = (a.astype("f8") * b).sum(1, keepdims=True)
        r = reduce((n, 1), "float32", (m,), "sum", lambda o, k: y(o[0], k[0]), [y])
        c = reduce((m,), "float32", (n,), "max", lambda o, k: y(k[0], o[0]), [y])
        np.testing.assert_allclose(run(r, feeds, isa, at), want, atol=1e-6 * dims[1])
        if dims[0]:
            np.testing.assert_array_equal(run(c, feeds, isa, at), (a * b).max(0))


def axes_sets(rank):
    return [axes for size in range(1, rank + 1) for axes in itertools.combinations(range(rank), size)]


def reduction(x, axes, kind, dtype=None, finish=None):
    kept = [a for a in range(x.ndim) if a not in axes]

    def body(o, k):
        place = dict(zip(kept, o, strict=True)) | dict(zip(axes, k, strict=True))
        return x(*[place[a] for a in range(x.ndim)])

    shape = [x.shape[a] for a in kept]
    return reduce(shape, dtype or x.dtype, [x.shape[a] for a in axes], kind, body, [x], finish)


@pytest.mark.parametrize("axes", axes_sets(4), ids=str)
def test_sum_over_any_axes(axes, isa):
    for shape in [(2, 3, 5, 33), (3, 4, 70, 6), (1, 1, 9, 128)]:
        x = Tensor(shape, "float32", "x")
        a = random(shape, "float32")
        count = int(np.prod([shape[k] for k in axes]))
        want = a.astype("f8").mean(axes)
        got = run(reduction(x, axes, "sum", finish=lambda v, *i: v / as_expr(float(count))), [(x, a)], isa)  # noqa: B023
        np.testing.assert_allclose(got, want, atol=2e-7 * np.sqrt(count))


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
@pytest.mark.parametrize("kind", ["max", "min", "sum", "prod"])
def test_kinds_and_types(kind, dtype):
    x = Tensor((5, 39, 6), dtype, "x")
    a = random((5, 39, 6), dtype)
    numpy = getattr(np, kind)
    for axes in [(2,), (1,), (0, 1, 2)]:
        want = numpy(
            a.astype("f8") if "float" in dtype else a,
            axes,
            **({} if kind in ("max", "min") or "float" in dtype else {"dtype": dtype}),
        )
        tolerance = 0 if "float" not in dtype or kind in ("max", "min") else np.finfo(dtype).eps * 40
        np.testing.assert_allclose(run(reduction(x, axes, kind), [(x, a)]), want, rtol=tolerance, atol=tolerance * 8)


@pytest.mark.parametrize("kind", ["any", "all"])
def test_any_and_all(kind, isa):
    x = Tensor((6, 45), "bool", "x")
    a = RNG.random((6, 45)) < (0.03 if kind == "any" else 0.97)
    for axes in [(0,), (1,), (0, 1)]:
        got = run(reduction(x, axes, kind), [(x, a.view(np.uint8))], isa)
        np.testing.assert_array_equal(got.astype(bool), getattr(np, kind)(a, axes))


def test_nan_and_infinity_in_max_and_min(isa):
    x = Tensor((4, 70), "float32", "x")
    a = random((4, 70), "float32")
    a[0] = -np.inf
    a[1] = np.inf
    for place in (0, 13, 69):
        b = a.copy()
        b[2, place] = np.nan
        for kind, axes in itertools.product(["max", "min"], [(0,), (1,)]):
            np.testing.assert_array_equal(run(reduction(x, axes, kind), [(x, b)], isa), getattr(np, kind)(b, axes))


def test_long_sum_keeps_its_accuracy():
    n = 1 << 20
    x = Tensor((n,), "float32", "x")
    a = RNG.random(n).astype(np.float32)
    got = run(reduction(x, (0,), "sum"), [(x, a)])
    # blocks: about n / 4096 + 64 additions a lane, so some hundred roundings at most, most of which cancel
    np.testing.assert_allclose(got, a.astype("f8").sum(), rtol=2e-6)


def test_reducing_nothing_gives_the_identity():
    x = Tensor((3, 0), "float32", "x")
    for kind, want in [("sum", 0), ("prod", 1), ("max", -np.inf), ("min", np.inf)]:
        np.testing.assert_array_equal(
            run(reduction(x, (1,), kind), [(x, np.zeros((3, 0), "f4"))]), np.full(3, want, "f4")
        )


def test_matmul_as_a_reduction(isa):
    x, y = Tensor((5, 30), "float32", "x"), Tensor((30, 41), "float32", "y")
    a, b = random(x.shape, "float32"), random(y.shape, "float32")
    value = reduce((5, 41), "float32", (30,), "sum", lambda o, k: x(o[0], k[0]) * y(k[0], o[1]), [x, y])
    np.testing.assert_allclose(run(value, [(x, a), (y, b)], isa), a @ b, atol=1e-5)


def test_shared_values_do_not_blow_up():
    """Forty maps that each read the one before twice: written out, 2^40 loads."""
    x = Tensor((100,), "float32", "x")
    values = [x]
    for _ in range(40):
        values.append(
            compute((100,), "float32", lambda i, p=values[-1]: p(i) * as_expr(0.5) + p(i) * as_expr(0.5), [values[-1]])
        )
    a = random((100,), "float32")
    np.testing.assert_allclose(run(values[-1], [(x, a)]), a, rtol=1e-6)
    turned = [x]
    for _ in range(12):  # read backwards, so that no value can be bound by its position
        turned.append(compute((100,), "float32", lambda i, p=turned[-1]: p(99 - i) - p(i) * as_expr(0.5), [turned[-1]]))
    want = a
    for _ in range(12):
        want = want[::-1] - want * np.float32(0.5)
    np.testing.assert_allclose(run(turned[-1], [(x, a)]), want, rtol=1e-4, atol=1e-6)


def test_reduction_read_by_a_later_output():
    x = Tensor((4, 33), "float32", "x")
    m = reduction(x, (1,), "max")
    d = compute((4, 33), "float32", lambda i, j: x(i, j) - m(i), [x, m])
    big, rest = Tensor((4,), "float32", "big"), Tensor((4, 33), "float32", "rest")
    a = random((4, 33), "float32")
    got = run_stages(lower_nest([(m, big), (d, rest)], get_target()), {id(x): a}, [big, rest], get_target())
    np.testing.assert_array_equal(got[0], a.max(1))
    np.testing.assert_array_equal(got[1], a - a.max(1, keepdims=True))


@pytest.mark.parametrize("dtype", ["float32", "int32", "float64", "int64", "float16", "int8"])
def test_transpose_of_squares_edges_and_slices(dtype, isa):
    """Sizes around the squares that are turned in registers, and a source that starts inside its tensor."""
    for rows, columns in [(16, 16), (33, 50), (17, 90)]:
        x = Tensor((2, rows + 3, columns + 5), dtype, "x")
        a = random(x.shape, dtype)
        value = compute((2, columns, rows), dtype, lambda n, i, j: x(n, j + 2, i + 4), [x])  # noqa: B023
        np.testing.assert_array_equal(run(value, [(x, a)], isa), a[:, 2 : 2 + rows, 4 : 4 + columns].transpose(0, 2, 1))
