"""Device profiles by name: those shipped as data files, and those measured on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flashload.profile import ASSUMED, FlashProfile
from targets.errors import EdgertError, UsageError

SHIPPED = Path(__file__).with_name("profiles")
LOCAL = "local"
CHOSEN = "EDGERT_FLASH_PROFILE"


def measured_folder() -> Path:
    """Where profiles of this machine are kept: `edgert/profiles` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgert" / "profiles"


def names() -> list[str]:
    """Profiles that `named` knows."""
    folders = (SHIPPED, measured_folder())
    return sorted({path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.json")})


def named(name: str) -> FlashProfile:
    """The profile of that name, or that in the file NAME.json. Raises UsageError where there is none, EdgertError for a
    file that is not a profile."""
    if name.endswith(".json"):
        return read(Path(name))
    for folder in (measured_folder(), SHIPPED):
        path = folder / f"{name}.json"
        if os.sep not in name and path.is_file():
            return read(path)
    if name == LOCAL:
        raise UsageError("this machine's flash has not been measured yet: run edgert devices --profile local")
    raise UsageError(f"there is no flash profile {name!r}; there is {', '.join(names())}, and any file NAME.json")


def choose(name: str) -> None:
    """From now on `usual` gives this profile, in this process and those it starts. Raises as `named` does."""
    named(name)
    os.environ[CHOSEN] = os.path.abspath(name) if name.endswith(".json") else name


def usual() -> FlashProfile:
    """The profile that EDGERT_FLASH_PROFILE names; else this machine's where it was measured; else an assumption."""
    if name := os.environ.get(CHOSEN):
        return named(name)
    path = measured_folder() / f"{LOCAL}.json"
    return read(path) if path.is_file() else ASSUMED


def read(path: Path) -> FlashProfile:
    """The profile in a file. Raises UsageError for a missing file, EdgertError for one that is not a profile."""
    try:
        data = json.loads(path.read_bytes())
        made = FlashProfile(
            str(data["name"]), _table(data["sequential"]), _table(data.get("random", [])), float(data["dram"]),
            int(data.get("cores", 1)), str(data.get("source", "")),
        )  # fmt: skip
        if not made.sequential or not made.dram > 0:
            raise ValueError("no speeds")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EdgertError(f"{path}: is not a flash profile ({error}): measure again") from None
    return made


def to_json(profile: FlashProfile) -> dict[str, Any]:
    """Plain data, as `read` takes it."""
    rows = {
        key: [[*at, rate] for at, rate in sorted(getattr(profile, key).items())] for key in ("sequential", "random")
    }
    facts = {"name": profile.name, "source": profile.source, "dram": profile.dram, "cores": profile.cores}
    return {**facts, **rows}


def _table(rows: list[list[float]]) -> dict[tuple[int, int], float]:
    found = {(int(block), int(depth)): float(rate) for block, depth, rate in rows}
    if any(block < 1 or depth < 1 or not rate > 0 for (block, depth), rate in found.items()):
        raise ValueError("a speed that is none")
    return found
