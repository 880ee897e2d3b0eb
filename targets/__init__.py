"""Targets by name. Every module of this package that has a TARGETS dictionary adds to the list."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from .errors import UsageError
from .target import Target


class UnknownTarget(UsageError):
    """No target of that name, or no host target this machine supports."""


def all_targets() -> dict[str, Target]:
    """Every target, by name."""
    found: dict[str, Target] = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.ispkg and module.name != "target":
            found |= getattr(importlib.import_module(f"{__name__}.{module.name}"), "TARGETS", {})
    return found


@cache
def host_features() -> frozenset[str]:
    """The names in the flags line of /proc/cpuinfo (`Features` on ARM); empty where there is no such file."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() in ("flags", "Features"):
                    return frozenset(value.split())
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
        able = [t for t in targets.values() if t.family == "cpu" and not t.half and flags >= set(t.features)]
        if not able:
            raise UnknownTarget(
                "no target fits this machine's CPU (AVX2 and FMA are the least); name one with --target"
            )
        return max(able, key=lambda t: (t.vector_bytes, len(t.features)))
    if name not in targets:
        raise UnknownTarget(f"unknown target {name!r}; there are: host, {', '.join(sorted(targets))}")
    return targets[name]
