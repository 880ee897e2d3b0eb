"""Turn `--input name=source` into arrays: files of several kinds, plain numbers, zeros."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgert import dtypes
from edgert.errors import UsageError
from edgert.interface.facts import Facts
from edgert.interface.readers import READERS, Request

Entry = Mapping[str, Any]


def gather(
    sources: Sequence[tuple[str, str]], manifest: Mapping[str, Any], facts: Facts
) -> list[dict[str, np.ndarray]]:
    """Inputs by name from (name, source) pairs: one dictionary, or one per frame of a recording.

    A source is a file (read by its ending and by what `facts` say), `zeros`, or a number that fills the input. A text
    fills all inputs that its tokenizer gives; a state that `facts` name starts at its initial value. Raises UsageError
    for unknown names, names given twice, inputs that are missing, and files that cannot be read or do not fit.
    """
    entries = {entry["name"]: entry for entry in manifest["inputs"]}
    fixed: dict[str, np.ndarray] = {}
    frames: list[dict[str, np.ndarray]] = [{}]
    for name, source in sources:
        if name not in entries:
            raise UsageError(f"the model has no input {name!r}; it has {', '.join(entries)}")
        if name in fixed or name in frames[0]:
            raise UsageError(f"input {name!r} is given twice")
        got = read_source(source, entries[name], facts)
        if len(got) == 1:
            fixed.update((key, array) for key, array in got[0].items() if key in entries)
        elif len(frames) > 1:
            raise UsageError("only one input can be a recording of several frames")
        else:
            frames = got
    state = facts.get("state", {})
    if state.get("input") in entries and state["input"] not in fixed:
        entry = entries[state["input"]]
        fixed[state["input"]] = np.full(largest(entry), state.get("initial", 0), dtypes.array_dtype(entry["dtype"]))
    missing = [f"{name} ({describe(entry)})" for name, entry in entries.items() if name not in {**fixed, **frames[0]}]
    if missing:
        raise UsageError(f"no --input for {', '.join(missing)}")
    return [{**fixed, **frame} for frame in frames]


def describe(entry: Entry) -> str:
    """Type and shape of a manifest's input or output, as in float32[1,3,224,224] or int64[1,..512]."""
    parts = [f"..{dim['max']}" if isinstance(dim, dict) else str(dim) for dim in entry["shape"]]
    return f"{entry['dtype']}[{','.join(parts)}]"


def largest(entry: Entry) -> list[int]:
    """The shape with every symbolic dimension at its maximum."""
    return [dim["max"] if isinstance(dim, dict) else dim for dim in entry["shape"]]


def read_source(source: str, entry: Entry, facts: Facts) -> list[dict[str, np.ndarray]]:
    """Arrays by input name for the manifest's input `entry`, one dictionary per frame."""
    shape, dtype = largest(entry), dtypes.array_dtype(entry["dtype"])
    if source == "zeros":
        return [{entry["name"]: np.zeros(shape, dtype)}]
    path = Path(source)
    if not path.is_file():
        try:
            number = float(source) if dtype.kind == "f" else int(source)
            return [{entry["name"]: np.full(shape, number, dtype)}]
        except (ValueError, OverflowError):
            raise UsageError(f"input {entry['name']!r}: no file {source!r}") from None
    request = Request(entry["name"], shape, dtype, facts)
    ending, known = path.suffix.lower(), facts.get("preprocess", {})
    reader = READERS.get(ending, READERS[".txt"] if "vocabulary" in known else None)
    if ending != ".npy":  # some models read any file (a detector of file types): their reader has their own name
        reader = READERS.get(known.get("code", ""), reader)
    if reader is None:
        endings = ", ".join(ending for ending in READERS if ending.startswith("."))
        raise UsageError(f"{source}: cannot tell what it is; endings known are {endings}")
    try:
        return reader(path, request)
    except ValueError as error:
        raise UsageError(f"{source}: {error} (input {entry['name']!r} is {describe(entry)})") from None
