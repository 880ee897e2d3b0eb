"""Names of several targets for one artifact: `aarch64+dotprod+i8mm`, the least first; the machine takes what it can."""

from __future__ import annotations

from targets import all_targets, get_target
from targets.errors import UsageError
from targets.target import Target


def get_targets(name: str) -> list[Target]:
    """The targets that a name stands for: the first, which stands alone, then the others, the most capable first.

    Behind a + stands a target's name, or what `Target.variant` says. Raises UnknownTarget, and UsageError for targets
    that no artifact has together.
    """
    first, *words = name.split("+")
    base = get_target(first)
    if not words:
        return [base]
    if base.family != "cpu":
        raise UsageError(f"--target {name}: only artifacts for CPUs have code for several")
    kin = [t for t in all_targets().values() if t.family == "cpu" and t.triple == base.triple and t.name != base.name]
    found: dict[str, Target] = {}
    for word in words:
        named = [t for t in kin if word in (t.name, t.variant)]
        if not named:
            known = ", ".join(sorted(t.variant or t.name for t in kin)) or "none"
            raise UsageError(f"--target {name}: behind {base.name}+ there may stand {known}, not {word!r}")
        found[named[0].name] = named[0]
    return [base, *sorted(found.values(), key=lambda t: (t.vector_bytes, len(t.features)), reverse=True)]
