"""Calibration data as users have it: an .npz file, or a folder of arrays, images, recordings or texts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgert.errors import UsageError
from edgert.interface.facts import find_facts
from edgert.interface.inputs import read_source

ARRAYS = {".npy", ".npz"}


class Folder:
    """A folder with one file a sample (a recording may be several), read anew on every walk.

    What is not an array becomes the first of the model's inputs the way `edgert run` does it; a text fills all inputs
    its tokenizer gives.
    """

    def __init__(self, files: list[Path], entries: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
        self._files, self._entries, self._facts = files, entries, facts

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for file in self._files:
            if file.suffix.lower() == ".npz":
                yield self._archive(file)
                continue
            for frame in read_source(str(file), next(iter(self._entries.values())), self._facts):
                yield {name: array for name, array in frame.items() if name in self._entries}

    def _archive(self, file: Path) -> dict[str, np.ndarray]:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"{file}: cannot be read ({error})") from None


def calibration(source: str, model: str) -> "str | Folder":
    """What `quant.quantize` takes for the path `source`: the path itself, or a folder of other files than arrays.

    Raises UsageError for a folder without files, or whose model has no shape that files can be read to.
    """
    path = Path(source)
    if not path.is_dir():
        return source
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise UsageError(f"{source}: the folder has no files; give one sample a file, better a hundred")
    if {file.suffix.lower() for file in files} <= ARRAYS:
        return source
    return Folder(files, _entries(model), find_facts(model, {}))


def read_labels(source: str) -> np.ndarray:
    """Class numbers [samples] from a .npy file, or from the array `labels` (or the only one) of an .npz file."""
    try:
        loaded = np.load(source, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            labels = loaded
        else:
            with loaded:
                names = loaded.files
                if "labels" not in names and len(names) != 1:
                    raise UsageError(f"{source}: has no array 'labels'; it has {', '.join(names)}")
                labels = loaded["labels" if "labels" in names else names[0]]
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{source}: cannot be read ({error})") from None
    if labels.dtype.kind not in "iu":
        raise UsageError(f"{source}: labels are class numbers, these are {labels.dtype}")
    return labels.reshape(-1)


def _entries(model: str) -> dict[str, dict[str, Any]]:
    """The model's inputs as a manifest has them; dimensions not known are 1 where they are the first, else 512."""
    import onnx

    from quant.graph import Graph
    from quant.model import read

    graph, entries = Graph(read(model)), {}
    for name in graph.inputs:
        shape = [d if isinstance(d, int) else 512 if i else 1 for i, d in enumerate(graph.shape(name) or ())]
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(graph.dtype(name)))
        entries[name] = {"name": name, "shape": shape, "dtype": dtype.name}
    return entries
