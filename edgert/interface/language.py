"""Open what a command for language models was given: an artifact, or a model that is compiled into the cache."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import edgert
from edgert import __version__, cpu
from edgert.digest import sha256
from edgert.errors import DoesNotFit, EdgertError, UnsupportedModel, UsageError
from edgert.interface.model import is_gguf, is_model
from edgert.llm.text_model import TextModel, open_text_model

Progress = Callable[[str, int, int], None]


def open_language_model(
    path: str, threads: int | None, kv: str, say: Callable[[str], None], progress: Progress | None = None,
    dram: int | str | None = None,
) -> TextModel:  # fmt: skip
    """The language model at `path`, an artifact or a model. Raises what `artifact_of` and loading raise."""
    return open_text_model(artifact_of(path, say, progress), threads, kv, dram)


def artifact_of(path: str, say: Callable[[str], None], progress: Progress | None = None) -> str:
    """The artifact for `path`. A model (.gguf, .onnx) is compiled for this machine first, once: it stays in the user's
    cache folder and is used again while file, compiler and processor are the same; `say` is told where.

    Raises what compiling raises, EdgertError where the cache folder cannot be written.
    """
    if not is_gguf(path) and not is_model(path):
        return path
    kept = _cached(Path(path))
    if not kept.is_file():
        say(f"compiling {path} into {kept}, once")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgertError(
                f"cannot make the cache folder {kept.parent}: {error.strerror} (XDG_CACHE_HOME chooses another)"
            ) from None
        if progress is not None:
            progress("for this machine", 0, 0)
        _compile(path, kept)
    return str(kept)


def _compile(path: str, output: Path) -> None:
    """In a process of its own, so that this one does not keep the compiler's memory beside the model's."""
    # This very package, and no module that happens to lie in the current folder (-P)
    search = os.pathsep.join([str(Path(edgert.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "edgert.cli", "compile", os.path.abspath(path), "-o", str(output)]
    command += ["--no-golden", "--json"]
    environment = {**os.environ, "PYTHONPATH": search}
    done = subprocess.run(command, check=False, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode:
        try:
            message = str(json.loads(done.stdout)["error"])
        except (ValueError, KeyError, TypeError):
            message = f"compiling {path} ended with {done.returncode}"  # killed, for example
        raise _KINDS.get(done.returncode, EdgertError)(message)


_KINDS = {kind.exit_code: kind for kind in (EdgertError, UsageError, UnsupportedModel, DoesNotFit)}


def _cached(model: Path) -> Path:
    """Where the artifact of this file, made by this compiler for this processor, is kept."""
    from targets import host_features

    facts = model.stat()
    parts = (model.resolve(), facts.st_size, facts.st_mtime_ns, __version__, _compiler_date(), cpu.architecture())
    key = sha256("\0".join(map(str, (*parts, *sorted(host_features())))).encode())[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgert" / "compiled"
    return folder / f"{model.stem[:60]}-{key}.edge"


def _compiler_date() -> int:
    """The latest change of the compiler's own files (ns), so that who works on it never runs what it made before."""
    import compiler
    import targets

    folders = [Path(folder) for package in (compiler, targets) for folder in package.__path__]
    return max((file.stat().st_mtime_ns for folder in folders for file in folder.rglob("*.py")), default=0)
