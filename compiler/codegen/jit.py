"""Runs stages in this process: for tests of templates, for tuning, and for folding constants."""

from __future__ import annotations

import ctypes
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from targets.kernels.stage import Const, Leaf, Stage, Temp
from targets.kernels.storage import expression_dtype
from targets.kernels.tensor import extent
from targets.target import Target

from .link import link_shared
from .lower import compile_object, symbol

_KEEP: list[ctypes.CDLL] = []


def load_code(code: bytes) -> ctypes.CDLL:
    """Maps a shared object from memory."""
    # a file of its own: the loader takes two objects of one path (/proc/self/fd/3, say) for the same
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(code)
        file.flush()
        library = ctypes.CDLL(file.name)
    _KEEP.append(library)
    return library


@cache
def permit_amx() -> None:
    """Asks Linux for AMX's tiles, once for the whole process. Raises OSError where it says no."""
    arch_prctl, request, tile_data = 158, 0x1023, 18  # SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    if ctypes.CDLL(None, use_errno=True).syscall(arch_prctl, request, tile_data):
        raise OSError(ctypes.get_errno(), "the kernel does not permit AMX here")


def buffer_of(leaf: Leaf) -> np.ndarray:
    """A 64-byte aligned array of a leaf's shape and type (bfloat16 and the like: through ml_dtypes)."""
    shape = tuple(int(s) for s in leaf.shape)
    dtype = numpy_dtype(leaf.dtype)
    raw = np.zeros(int(np.prod(shape)) * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)


def numpy_dtype(dtype: str) -> np.dtype:
    """The numpy type for a TIR type name."""
    if dtype == "bfloat16" or expression_dtype(dtype) != dtype:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, dtype))
    return np.dtype(dtype)


def compile_stages(
    stages: Sequence[Stage], target: Target
) -> Callable[[Mapping[int, np.ndarray], Mapping[str, int]], Callable[[], None]]:
    """A function of (arrays by id(leaf), dims by name) that gives a call: the stages in order, on one thread."""
    names = [symbol(stage, target) for stage in stages]
    objects = {name: compile_object(stage, target) for name, stage in zip(names, stages, strict=True)}
    if target.tiles == "amx":
        permit_amx()
    libraries = {name: load_code(link_shared({name: data}, target, name)) for name, data in objects.items()}

    def prepare(arrays: Mapping[int, np.ndarray], dims: Mapping[str, int]) -> Callable[[], None]:
        """The calls with all arguments made, for timing."""
        calls = []
        for name, stage in zip(names, stages, strict=True):
            pointers = [ctypes.c_void_p(arrays[id(leaf)].ctypes.data) for leaf in stage.operands]
            scalars = [ctypes.c_int64(dims[var.name]) for var in stage.dims]
            tasks = extent(stage.tasks, dims)
            calls.append(
                (getattr(libraries[name], name), (*pointers, *scalars, ctypes.c_int64(0), ctypes.c_int64(tasks)))
            )

        def call() -> None:
            for function, arguments in calls:
                function(*arguments)

        return call

    return prepare


def stage_arrays(
    stages: Sequence[Stage], feeds: Mapping[int, np.ndarray], outputs: Sequence[Leaf], dims: Mapping[str, int]
) -> dict[int, np.ndarray]:
    """An aligned array for every operand, by id: given ones copied, constants made, the rest zeros."""
    arrays: dict[int, np.ndarray] = {}
    for leaf in itertools.chain(*(stage.operands for stage in stages), outputs):
        if id(leaf) in arrays:
            continue
        if id(leaf) in feeds:
            given = np.ascontiguousarray(feeds[id(leaf)])
        elif isinstance(leaf, Const):
            given = np.ascontiguousarray(leaf.make())
        elif not isinstance(leaf, Temp) and leaf.data is not None:
            given = np.ascontiguousarray(leaf.data())
        else:
            given = None
        concrete = Temp(tuple(extent(s, dims) for s in leaf.shape), leaf.dtype)
        arrays[id(leaf)] = buffer_of(concrete)
        if given is not None:
            arrays[id(leaf)].reshape(-1)[:] = given.reshape(-1)
    return arrays


def run_stages(
    stages: Sequence[Stage], feeds: Mapping[int, np.ndarray], outputs: Sequence[Leaf], target: Target,
    dims: Mapping[str, int] | None = None,
) -> list[np.ndarray]:  # fmt: skip
    """Runs stages on arrays given by id(leaf); makes Temps, Consts and the outputs. Gives the outputs."""
    dims = dims or {}
    arrays = stage_arrays(stages, feeds, outputs, dims)
    compile_stages(stages, target)(arrays, dims)()
    return [arrays[id(leaf)] for leaf in outputs]
