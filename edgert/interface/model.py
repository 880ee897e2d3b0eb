"""Open what a command was given: an artifact, or a model that is compiled for this once."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import edgert
from edgert.cpu import triple_architecture
from edgert.errors import UsageError
from edgert.runner import Model
from targets import all_targets
from targets.devices.remote import is_remote

MODEL_ENDINGS = (".onnx",)


def is_model(path: str | Path) -> bool:
    """Whether `path` is a model to compile rather than an artifact, by its ending."""
    return Path(path).suffix.lower() in MODEL_ENDINGS


def is_gguf(path: str | Path) -> bool:
    """Whether `path` is a GGUF file, a language model, by its ending."""
    return Path(path).suffix.lower() == ".gguf"


@contextlib.contextmanager
def open_model(
    path: str,
    shapes: Mapping[str, tuple[int, ...]],
    dims: Mapping[str, tuple[int, int]],
    threads: int | None,
    device: str = "local",
    dram: int | str | None = None,
) -> Iterator[Model]:
    """A loaded model from an artifact, or from a model compiled for the host into a folder that is removed again.

    Raises UsageError for a device that this machine does not have, and for --shape or --dim with an artifact.
    """
    from edgert.interface.devices import check_device

    if device.startswith("sim://"):
        yield from _simulated(path, shapes, device)
        return
    if device.startswith("qemu-user://"):
        yield from _emulated(path, shapes, dims, threads, device)
        return
    if is_remote(device):
        yield from _remote(path, shapes, dims, threads, device, dram)
        return
    target = "host"
    if device.startswith("opencl://"):
        target = "opencl"
    else:
        check_device(device)
    if is_gguf(path):
        raise UsageError(f"{path} is a language model: see `edgert generate`, or compile it first")
    if not is_model(path):
        if shapes or dims:
            raise UsageError(f"{path} is an artifact, its shapes are fixed: --shape and --dim are for models")
        yield edgert.load(path, threads=threads, dram=dram, device=device)
        return
    from edgert.interface.build import build

    with _folder() as folder:
        artifact = str(Path(folder) / f"{Path(path).stem}.edge")
        build(path, artifact, target=target, shapes=shapes, dims=dims, golden=False)
        yield edgert.load(artifact, threads=threads, dram=dram, device=device)


def _folder() -> contextlib.AbstractContextManager[str]:
    """A folder that goes when it is left."""
    import tempfile  # here, because it brings much along that running an artifact does not need

    return tempfile.TemporaryDirectory(prefix="edgert-")


def _simulated(path: str, shapes: Mapping[str, tuple[int, ...]], device: str) -> Iterator[Any]:
    """Firmware on a simulated microcontroller, which has a loaded model's methods; a model is compiled for it first."""
    from edgert.interface.simulated import open_simulated
    from targets.devices.registry import core_of

    if not is_model(path):
        yield open_simulated(path, device)
        return
    from edgert.interface.build import build

    with _folder() as folder:
        firmware = str(Path(folder) / f"{Path(path).stem}.elf")
        build(path, firmware, target=core_of(device).name, emit="elf", shapes=shapes)
        yield open_simulated(firmware, device)


def _emulated(path: str, shapes: Mapping[str, Any], dims: Mapping[str, Any], threads: int | None, device: str) -> Any:
    """A program under an emulator, which has a loaded model's methods; a model is compiled for it first."""
    from edgert.interface.build import build
    from edgert.interface.emulated import EmulatedModel
    from targets.devices.qemu_user import QemuUser

    with _folder() as folder:
        if is_model(path):
            artifact = str(Path(folder) / f"{Path(path).stem}.edge")
            build(path, artifact, target=baseline(QemuUser.of(device).machine), shapes=shapes, dims=dims, golden=False)
            path = artifact
        elif shapes or dims:
            raise UsageError(f"{path} is an artifact, its shapes are fixed: --shape and --dim are for models")
        with EmulatedModel(path, device, threads) as model:
            yield model


def baseline(machine: str) -> str:
    """The target of an architecture that asks for the fewest features."""
    cpus = [target for target in all_targets().values() if target.family == "cpu"]
    mine = [target for target in cpus if triple_architecture(target.triple) == machine]
    return min(mine, key=lambda target: len(target.features)).name


def _remote(
    path: str,
    shapes: Mapping[str, Any],
    dims: Mapping[str, Any],
    threads: int | None,
    device: str,
    dram: int | str | None,
) -> Any:
    """An artifact on a device, which has a loaded model's methods; it is put there where it is not there yet."""
    from edgert.deploy.model import RemoteModel

    if is_model(path) or is_gguf(path):
        raise UsageError(f"{path} is a model: compile it with --target for the device, then give the artifact")
    if shapes or dims:
        raise UsageError(f"{path} is an artifact, its shapes are fixed: --shape and --dim are for models")
    with RemoteModel(path, device, threads, dram) as model:
        yield model
