"""TIR functions of work items to Metal and WebGPU shaders, one text a kernel, through TVM's code generators."""

from __future__ import annotations

from collections.abc import Iterable

from targets.gpu import Gpu
from targets.kernels.stage import Stage

from .cache import cached
from .lower import source, symbol
from .opencl import exact, generated

SUFFIXES = {"metal": "metal", "webgpu": "wgsl"}  # of files, by the name of TVM's generator

# what TVM's generators write that does not do
REPLACED = {
    "webgpu": {
        # one buffer holds the arena, and a dispatch may have that as read-only or as writable, not as both
        "var<storage, read>": "var<storage, read_write>",
        "-2147483648i": "i32(-2147483648)",  # 2147483648 is no i32
        "inff": "0x1.fffffep+127f",  # WGSL has no infinities, so a least or largest number takes their place
    }
}


def shader_sources(stages: Iterable[Stage], target: Gpu) -> dict[str, bytes]:
    """The shader of every distinct kernel, by its file's name: the kernel's own, and the language's suffix."""
    kernels = {symbol(stage, target): stage for stage in stages}
    return {f"{name}.{SUFFIXES[target.api]}": _shader(stage, name, target) for name, stage in kernels.items()}


def _shader(stage: Stage, name: str, target: Gpu) -> bytes:
    def make() -> bytes:
        text, script = generated(stage, name, target.api)
        text = exact(text, script)
        for before, after in REPLACED.get(target.api, {}).items():
            text = text.replace(before, after)
        return text.encode()

    return cached(f"{target.api}-shader", source(stage, target), make)
