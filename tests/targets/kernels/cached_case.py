"""Cached attention by numpy in float64, and one random call of the kernels compared with it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from compiler.codegen.jit import compile_stages, load_code, stage_arrays
from compiler.codegen.link import link_shared
from compiler.codegen.lower import compile_object, symbol
from targets.kernels.cached_attention_formats import FORMATS
from targets.kernels.cached_attention_tiles import LEAST
from targets.kernels.registry import Call, stages_for
from targets.kernels.stage import Stage
from targets.kernels.tensor import Tensor, extent
from targets.target import Target

from .kernel_case import EPS

HALF = 2.0**-11  # float16's rounding
STATE = ("cache", "scales", "queries", "codes", "key_factors", "value_factors")  # what a call changes where it is


@dataclass(frozen=True)
class Case:
    """Sizes of one call. `rows` new ones after `past`; rotary 0: the whole head."""

    rows: int
    past: int
    heads: int = 3
    groups: int = 1
    size: int = 64
    rotary: int = 0
    window: int = 0
    interleaved: int = 1
    format: str = "f16"
    spare: int = 3  # rows of the cache beyond the last one written
    layers: int = 2


def rope(x: np.ndarray, positions: np.ndarray, cos: np.ndarray, sin: np.ndarray, interleaved: int) -> np.ndarray:
    """x [S, heads, D] turned."""
    half = cos.shape[1]
    c, s = cos[positions][:, None].astype(np.float64), sin[positions][:, None].astype(np.float64)
    first, second = slice(0, half), slice(half, 2 * half)
    if interleaved:
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    y = x.astype(np.float64)
    y[..., first], y[..., second] = x[..., first] * c - x[..., second] * s, x[..., second] * c + x[..., first] * s
    return y


def visible(past: int, positions: np.ndarray, seen: np.ndarray, window: int) -> np.ndarray:
    """bool [S, past + S]: what each new row sees."""
    rows = len(positions)
    places = np.concatenate([np.arange(past), positions])
    sees = np.concatenate([np.ones((rows, past), bool), seen != 0], axis=1)
    return sees & (positions[:, None] - places < window) if window else sees


def attend(
    q: np.ndarray, keys: np.ndarray, values: np.ndarray, sees: np.ndarray, unit: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """q [S, H, D] (scaled), keys and values [T, G, D] -> [S, H, D] in float64, and how far float32 may be from it.

    A score is off by eps times the sum of its absolute products (8 times that, see assert_close), its weight by as
    large a part, and the result by the sum of weights times absolute values times that; zeros where nothing is seen.
    unit: where factors are rounded, to a `unit` of themselves at most. These errors are drawn anew for each product, so
    a score's is some `unit` times the root of its products' squares, and so on; three of them is five deviations.
    """
    each = q.shape[1] // keys.shape[1]
    k, v = (np.repeat(x.astype(np.float64), each, axis=1) for x in (keys, values))
    scores = np.where(sees, np.einsum("shd,thd->hst", q, k), -np.inf)
    terms = np.where(sees, np.einsum("shd,thd->hst", np.abs(q), np.abs(k)), 0.0).max(-1)
    top = scores.max(-1, keepdims=True)
    power = np.exp(scores - np.where(np.isinf(top), 0.0, top))
    total = power.sum(-1, keepdims=True)
    weights = power / np.where(total == 0, 1.0, total)
    bound = np.einsum("hst,thd->shd", weights, np.abs(v)) * (8 * EPS * (2 + 2 * terms.T))[..., None]
    result = np.einsum("hst,thd->shd", weights, v)
    if unit:
        squares = np.where(sees, np.einsum("shd,thd->hst", q**2, k**2), 0.0)
        apart = (v[:, None] - result).transpose(2, 1, 0, 3)
        off = np.einsum("hst,hstd->shd", weights**2 * (1 + 2 * squares), apart**2)
        bound = bound + 3 * unit * np.sqrt(off + np.einsum("hst,thd->shd", weights**2, v**2))
    return result, bound


def causal(rows: int) -> np.ndarray:
    """Every new row sees itself and those before."""
    return np.tril(np.ones((rows, rows), np.uint8))


def floats(cache: np.ndarray, scales: np.ndarray | None, format_: str) -> np.ndarray:
    """The cache [..., rows, D] as float64."""
    if format_ == "f16":
        return cache.astype(np.float64)
    assert scales is not None
    return cache.astype(np.float64) * scales[..., None]


def rounding(x: np.ndarray, format_: str) -> np.ndarray:
    """How far a stored row may be from `x` [..., D]: half a step of its codes, and what float16 and float32 round."""
    if format_ == "f16":
        return np.abs(x) * HALF * 1.01 + 1e-6
    return np.broadcast_to(np.abs(x).max(-1, keepdims=True) / 127 * 0.501 + 1e-6, x.shape)


def arrays_of(case: Case, seen: np.ndarray | None, positions: np.ndarray | None) -> dict[str, np.ndarray]:
    """Random inputs; rows of the cache that were never written hold NaN or the largest bytes."""
    rng = np.random.default_rng(case.rows * 1000 + case.past)
    rows, past, width = case.rows, case.past, case.groups * case.size
    capacity = max(64, past + rows + case.spare)
    half = (case.rotary or case.size) // 2
    places = past + np.arange(rows) if positions is None else positions
    angle = np.arange(places.max() + 2)[:, None] * 10000.0 ** (-np.arange(half) / half)
    made = {
        "q": rng.normal(size=(rows, case.heads * case.size)) * 2, "k": rng.normal(size=(rows, width)),
        "v": rng.normal(size=(rows, width)),
    }  # fmt: skip
    arrays: dict[str, np.ndarray] = {n: a.astype(np.float32) for n, a in made.items()}
    kinds = FORMATS[case.format].shapes(case.layers, case.groups, capacity, case.size)
    cache = [_filled(rng, shape, dtype, past) for shape, dtype in kinds]
    arrays |= {"cache": cache[0], "past": np.array([past]), "positions": places}
    arrays |= {"seen": causal(rows) if seen is None else seen}
    arrays |= {"cos": np.cos(angle).astype(np.float32), "sin": np.sin(angle).astype(np.float32)}
    return arrays | ({"scales": cache[1]} if len(cache) > 1 else {})


def _filled(rng: np.random.Generator, shape: Sequence[int], dtype: str, past: int) -> np.ndarray:
    if dtype.startswith("float"):
        made = np.abs(rng.normal(size=shape)) * 0.02 if len(shape) == 4 else rng.normal(size=shape)
        made = made.astype(dtype)
        made[:, :, :, past:] = np.nan
        return made
    info = np.iinfo(dtype)
    return rng.integers(max(-127, info.min), info.max + 1, shape).astype(dtype)


def run_case(
    case: Case, target: Target, seen: np.ndarray | None = None, positions: np.ndarray | None = None, threads: int = 1,
    symbolic: bool = True,
) -> None:  # fmt: skip
    """One call against the reference: rows stored, everything else in the cache untouched, the result."""
    arrays = arrays_of(case, seen, positions)
    shapes, dims = open_shapes(arrays) if symbolic else ({}, {})
    stages, leaves, results = call_of(target, arrays, case, shapes)
    call, made = prepare(stages, leaves, results, arrays, target, dims, threads)
    call()
    out, *after = (made[id(t)] for t in results)
    rows, past, window = case.rows, case.past, case.window
    new = (1, slice(None), slice(None), slice(past, past + rows))
    for name, now in zip(("cache", "scales"), after, strict=False):
        kept = np.ones(now.shape, bool)
        kept[new] = False
        assert (now[kept].tobytes()) == arrays[name][kept].tobytes(), f"{name}: rows changed that are not new"
    tables = arrays["positions"], arrays["cos"], arrays["sin"], case.interleaved
    q, k = (rope(arrays[n].reshape(rows, -1, case.size), *tables) for n in "qk")
    stored = floats(after[0], after[1] if len(after) > 1 else None, case.format)
    want = np.stack([k, arrays["v"].reshape(k.shape)]).transpose(0, 2, 1, 3)
    assert (np.abs(stored[new] - want) <= rounding(want, case.format)).all(), np.abs(stored[new] - want).max()
    keys, values = (stored[1, kv, :, : past + rows].transpose(1, 0, 2) for kv in (0, 1))
    sees = visible(past, arrays["positions"], arrays["seen"], window)
    exact, bound = attend(q * case.size**-0.5, keys, values, sees, unit_of(case, target))
    error = np.abs(out.reshape(exact.shape) - exact)
    assert (error <= bound + 1e-30).all(), (
        f"largest error {error.max()}, {(error / (bound + 1e-30)).max()} of the bound"
    )


def open_shapes(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, tuple], dict[str, int]]:
    """Shapes with rows and capacity as variables, and their values here."""
    s, c = tirx.Var("s", "int64"), tirx.Var("c", "int64")
    shapes = {
        name: tuple(
            c if name in ("cache", "scales") and i == 3 else s if name in ("q", "k", "v", "positions") and i == 0
            or name == "seen" else d for i, d in enumerate(array.shape)
        )
        for name, array in arrays.items()
    }  # fmt: skip
    return shapes, {"s": len(arrays["q"]), "c": arrays["cache"].shape[3]}


def unit_of(case: Case, target: Target) -> float:
    """What the factors of products are rounded by: bfloat16's unit where tiles multiply."""
    return 2.0**-8 if target.tiles == "amx" and case.rows >= LEAST and case.size % 32 == 0 else 0.0


def call_of(
    target: Target, arrays: Mapping[str, np.ndarray], case: Case, shapes: Mapping[str, tuple]
) -> tuple[list[Stage], dict[str, Tensor], list[Tensor]]:
    """Stages, the input leaves by name and the results (out, cache, ...) of a call on these arrays."""
    attrs = {
        "layer": 1, "heads": case.heads, "groups": case.groups, "interleaved": case.interleaved,
        "window": case.window, "format": case.format,
    }  # fmt: skip
    leaves = {n: Tensor(tuple(shapes.get(n, a.shape)), str(a.dtype), n) for n, a in arrays.items()}
    results = [Tensor(leaves["q"].shape, "float32", "out")]
    results += [Tensor(t.shape, t.dtype, f"{n}_after") for n, t in leaves.items() if n in STATE]
    outputs = [Tensor(t.shape, t.dtype, "o") for t in results]
    stages = stages_for(
        Call("edgert.CachedAttention", attrs, list(leaves.values()), outputs, outputs[0], results), target
    )
    assert stages is not None
    return stages, leaves, results


def prepare(
    stages: Sequence[Stage], leaves: Mapping[str, Tensor], results: Sequence[Tensor],
    arrays: Mapping[str, np.ndarray], target: Target, dims: Mapping[str, int], threads: int = 1,
) -> tuple:  # fmt: skip
    """(the call, its arrays): results stand on copies of the cache, as the runner has them in the same memory."""
    feeds = {id(leaves[n]): a for n, a in arrays.items()}
    feeds |= {id(t): arrays[t.name.removesuffix("_after")] for t in results[1:]}
    made = stage_arrays(stages, feeds, results, dims)
    if threads == 1:
        return compile_stages(stages, target)(made, dims), made
    return lambda: _threaded(stages, made, target, dims, threads), made


def _threaded(
    stages: Sequence[Stage], made: Mapping[int, np.ndarray], target: Target, dims: Mapping[str, int], threads: int
) -> None:
    """Every task a call of its own, the last ones first, on several threads."""
    with ThreadPoolExecutor(threads) as pool:
        for stage in stages:
            name = symbol(stage, target)
            function = getattr(load_code(link_shared({name: compile_object(stage, target)}, target, name)), name)
            pointers = [ctypes.c_void_p(made[id(leaf)].ctypes.data) for leaf in stage.operands]
            scalars = [ctypes.c_int64(dims[var.name]) for var in stage.dims]
            order = reversed(range(extent(stage.tasks, dims)))
            calls = [(*pointers, *scalars, ctypes.c_int64(i), ctypes.c_int64(i + 1)) for i in order]
            done = [pool.submit(_invoke, function, given) for given in calls]
            for one in done:
                one.result()


def _invoke(function: Callable[..., None], arguments: Sequence) -> None:
    function(*arguments)
