"""Compiled kernels, kept by the hash of what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path


def cache_dir() -> Path:
    """Where this user's compiled kernels lie: $EDGERT_CACHE, else the XDG cache folder."""
    if root := os.environ.get("EDGERT_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgert"


@cache
def _toolchain() -> str:
    return "/".join(version(name) for name in ("apache-tvm", "llvmlite", "ziglang"))


def cached(kind: str, source: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives for `source`, from the cache when it was made before by the same tools.

    Safe across processes.
    """
    digest = hashlib.sha256(f"{kind}\0{_toolchain()}\0{source}".encode()).hexdigest()
    path = cache_dir() / kind / digest[:2] / digest
    with contextlib.suppress(OSError):
        return path.read_bytes()
    data = make()
    # a cache that cannot be written (full disk, read-only home) costs time, never the compile
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    return data
