"""What is known of a model beyond its graph: how its inputs are prepared and what its outputs mean.

`edgert pull NAME` writes NAME.json beside the model; an artifact has the same in its manifest under `facts`, or
beside it. Used here: `preprocess`, `state` and `labels`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgert.errors import UsageError

Facts = Mapping[str, Any]


def find_facts(path: str | Path, manifest: Mapping[str, Any]) -> Facts:
    """The facts for the artifact or model at `path`; empty where there are none.

    Raises UsageError for a file of the right name that says something else.
    """
    if isinstance(manifest.get("facts"), dict):
        return dict(manifest["facts"])
    beside = Path(path).with_suffix(".json")
    if not beside.is_file():
        return {}
    try:
        facts = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise UsageError(f"{beside} is not JSON, and stands where the facts about {path} would: move it") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("preprocess", {}), dict):
        return {}
    # Files that the facts name stand beside them.
    return {**facts, "folder": str(beside.parent)}
