"""Targets by name. Every module of this package that has a TARGETS dictionary adds to the list."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from .target import Target


class UnknownTarget(ValueError):
    """No target of that name, or no host target this machine supports."""


def all_targets() -> dict[str, Target]:
    """Every target, by name."""
    found: dict[str, Target] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.ispkg and module.name != "target":
            found |= getattr(importlib.import_module(f"{__name__}.{module.name}"), "TARGETS", {})
    return found


def host_features() -> frozenset[str]:
    """The CPU feature flags of this machine; empty where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def get_target(name: str = "host") -> Target:
    """The target of that name; `host` is the widest one this machine runs.

    Raises UnknownTarget, naming the ones there are.
    """
    targets = all_targets()
    if name == "host":
        flags = host_features()
        able = [t for t in targets.values() if t.features and flags >= set(t.features)]
        if not able:
            raise UnknownTarget(
                "no target fits this machine's CPU (AVX2 and FMA are the least); name one with --target"
            )
        return max(able, key=lambda t: t.vector_bytes)
    if name not in targets:
        raise UnknownTarget(f"unknown target {name!r}; there are: host, {', '.join(sorted(targets))}")
    return targets[name]
