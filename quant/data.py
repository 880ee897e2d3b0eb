"""Calibration samples, streamed: one dictionary {input name: array} at a time, as often as asked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from quant import npz
from quant.graph import Graph
from targets.errors import UsageError

Shape = tuple[int | str | None, ...]
Sample = dict[str, np.ndarray]
# read(file, input name, input shape) -> the array for that input; for images, sounds and whatever else is no array.
Reader = Callable[[Path, str, Shape], np.ndarray]


class Input(NamedTuple):
    """One input of the model: its shape (names for symbolic dimensions) and its numpy type."""

    name: str
    shape: Shape
    dtype: np.dtype


class Samples:
    """Calibration samples, checked against the model's inputs as they pass; may be walked again and again.

    `where` names their source in errors.
    """

    def __init__(
        self,
        inputs: list[Input],
        start: Callable[[], Iterator[tuple[str, Sample]]],
        limit: int | None,
        where: str = "the calibration data",
    ):
        self.inputs, self.limit, self.where, self._start = inputs, limit, where, start

    def __iter__(self) -> Iterator[Sample]:
        empty = True
        for where, sample in islice(self._start(), self.limit):
            yield checked(sample, self.inputs, where)
            empty = False
        if empty:
            raise UsageError(f"{self.where} is empty; give at least one sample, better a hundred")


def open_samples(
    model: onnx.ModelProto,
    source: str | Path | Iterable[Sample] | Samples,
    read: Reader | None = None,
    limit: int | None = None,
) -> Samples:
    """Calibration samples out of a file, a folder or a Python iterable.

    An .npz file has arrays named like the inputs (any name where there is one input), samples along the first axis. A
    folder has one file a sample: .npy for a model of one input, .npz, or what `read` reads (one input); in name order.
    A Python iterable gives {input name: array}; one that can be walked once only is kept in a temporary folder.
    Raises UsageError naming what is wrong, for bad samples when they are reached.
    """
    graph = Graph(model)
    inputs = [
        Input(n, graph.shape(n) or (), np.dtype(onnx.helper.tensor_dtype_to_np_dtype(graph.dtype(n))))
        for n in graph.inputs
    ]
    if isinstance(source, Samples):
        return Samples(inputs, source._start, limit if limit is not None else source.limit, source.where)
    if not isinstance(source, (str, Path)):
        return Samples(inputs, _replayable(source), limit)
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        return Samples(inputs, lambda: _folder(files, inputs, read), limit, str(path))
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder")
    if path.suffix != ".npz":
        raise UsageError(f"{path}: calibration data is an .npz file or a folder with one file a sample")
    return Samples(inputs, lambda: _archive(path, inputs), limit, str(path))


def checked(sample: Sample, inputs: list[Input], where: str) -> Sample:
    """The sample with every input in its exact type. Raises UsageError for a missing, misshapen or not finite one."""
    if unknown := sorted(set(sample) - {spec.name for spec in inputs}):
        names = ", ".join(spec.name for spec in inputs)
        raise UsageError(f"{where}: the model has no input {', '.join(map(repr, unknown))}; it has {names}")
    result = {}
    for spec in inputs:
        if spec.name not in sample:
            raise UsageError(f"{where}: has no array for the input {spec.name!r}")
        array = np.asarray(sample[spec.name])
        what = f"{where}: input {spec.name!r}"
        fits = len(array.shape) == len(spec.shape) and all(
            not isinstance(want, int) or want == have for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            want = "x".join("?" if d is None else str(d) for d in spec.shape)
            have = "x".join(map(str, array.shape))
            raise UsageError(f"{what} wants shape {want or 'scalar'}, the sample has {have or 'a scalar'}")
        scaled = array.dtype.kind in "ui" and spec.dtype.kind == "f"  # bytes of an image, say: never meant as they are
        if scaled or not np.can_cast(array.dtype, spec.dtype, "same_kind"):
            raise UsageError(f"{what} wants {spec.dtype}, the sample has {array.dtype}; give what the model is run on")
        array = np.ascontiguousarray(array, spec.dtype).reshape(array.shape)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UsageError(f"{what} has NaN or infinite values; remove the sample or mend it")
        result[spec.name] = array
    return result


def _sole(inputs: list[Input], where: str) -> Input:
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise UsageError(f"{where}: the model has several inputs ({names}); give .npz files with an array for each")
    return inputs[0]


def _archive(path: Path, inputs: list[Input]) -> Iterator[tuple[str, Sample]]:
    names = npz.members(path)
    if len(inputs) == 1 and len(names) == 1:
        names = {inputs[0].name: next(iter(names.values()))}
    rows = {spec.name: npz.rows(path, names[spec.name]) for spec in inputs if spec.name in names}
    if missing := [spec.name for spec in inputs if spec.name not in rows]:
        raise UsageError(f"{path}: has no array {missing[0]!r}; it has {', '.join(names) or 'none'}")
    if len(counts := {name: len(found) for name, found in rows.items()}) and len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(f"{path}: arrays differ in their number of samples ({told})")
    batches = {_batch(spec, rows[spec.name].rank) for spec in inputs}
    streams = {spec.name: _in_batches(iter(rows[spec.name]), spec, rows[spec.name].rank) for spec in inputs}
    if len(batches) > 1:
        raise UsageError(f"{path}: some arrays have a sample axis of their own and some have not")
    for i, values in enumerate(zip(*streams.values(), strict=True)):
        yield f"{path}, sample {i}", dict(zip(streams, values, strict=True))


def _batch(spec: Input, rank: int) -> int:
    """How many rows of an array make one sample: 0 where each row is whole, with its batch axis or without any."""
    if rank != len(spec.shape):
        return 0
    return spec.shape[0] if isinstance(spec.shape[0], int) else 1


def _in_batches(rows: Iterator[np.ndarray], spec: Input, rank: int) -> Iterator[np.ndarray]:
    count = _batch(spec, rank)
    if not count:
        yield from rows
        return
    while batch := list(islice(rows, count)):
        if len(batch) == count:
            yield np.stack(batch)


def _folder(files: list[Path], inputs: list[Input], read: Reader | None) -> Iterator[tuple[str, Sample]]:
    for file in files:
        yield str(file), _file(file, inputs, read)


def _file(file: Path, inputs: list[Input], read: Reader | None) -> Sample:
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
            if len(found) == len(inputs) == 1:
                found = {inputs[0].name: next(iter(found.values()))}
            return {name: _whole(array, inputs, name) for name, array in found.items()}
        spec = _sole(inputs, str(file))
        if file.suffix == ".npy":
            return {spec.name: _whole(np.load(file, allow_pickle=False), inputs, spec.name)}
        if read is None:
            raise UsageError(f"{file}: is neither .npy nor .npz")
        return {spec.name: _whole(read(file, spec.name, spec.shape), inputs, spec.name)}
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from None


def _whole(array: np.ndarray, inputs: list[Input], name: str) -> np.ndarray:
    """The array with a batch axis of 1 put before, where only that is missing."""
    shape = next((spec.shape for spec in inputs if spec.name == name), ())
    return array[None] if array.ndim == len(shape) - 1 and shape[0] in (1, None, str(shape[0])) else array


def _replayable(source: Iterable[Sample]) -> Callable[[], Iterator[tuple[str, Sample]]]:
    """Walk any iterable as often as asked: what a one-time iterator gives is kept on disk while it is walked first."""
    if iter(source) is not source:
        return lambda: ((f"sample {i}", sample) for i, sample in enumerate(source))
    folder = tempfile.TemporaryDirectory(prefix="edgert-samples-")
    kept: list[Path] = []

    def walk() -> Iterator[tuple[str, Sample]]:
        for i in range(len(kept)):
            with np.load(kept[i], allow_pickle=False) as archive:
                yield f"sample {i}", {name: archive[name] for name in archive.files}
        for sample in source:
            kept.append(Path(folder.name, f"{len(kept)}.npz"))
            np.savez(kept[-1], **sample)
            yield f"sample {len(kept) - 1}", sample

    return walk
