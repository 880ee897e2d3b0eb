"""Quantize a model, measure what it cost, and refuse where it cost too much."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgert.atomic import write_atomic
from edgert.errors import EdgertError, UsageError
from edgert.interface.calibration import calibration, read_labels
from edgert.interface.show import table
from edgert.units import format_bytes

if TYPE_CHECKING:
    from edgert.interface.agreement import Agreement
    from quant.evaluate import Quality
    from quant.quantize import Quantized
    from quant.report import LayerReport, Report

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What to do, as the command line has it.

    `model`, `output`: ONNX files. `calibrate`: samples to find ranges with; `evaluate`: samples to measure on (default:
    the same); `labels`: class numbers of those measured on. `max_drop`: the most that may be lost of the top-1 accuracy
    (with labels) or of the mean cosine, 0.005 for half a point; `min_sqnr` in dB. `layers`: measure every layer;
    `alone`: also the harm each does alone (None: unless there are very many). `check`: compile the result and run it
    beside ONNX Runtime. `options`: fields of `quant.contract.Options`.
    """

    model: str
    output: str
    scheme: str = "int8"
    calibrate: str | None = None
    evaluate: str | None = None
    labels: str | None = None
    max_drop: float | None = None
    min_sqnr: float | None = None
    layers: bool = False
    alone: bool | None = None
    check: bool = False
    report: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizeResult:
    """What came of it. Bytes are those of the constants and of the written file; `quality` is None where there were no
    samples to measure on. `layers` (most harmful first) only where asked for; `kept` stayed in float32. `check`: how
    the compiled model differs from ONNX Runtime, where that was asked for."""

    path: str
    scheme: str
    file_bytes: int
    bytes_before: int
    bytes_after: int
    measured_on: str | None
    quality: "Quality | None"
    drop: float | None
    ranked_by: str | None
    layers: "list[LayerReport]"
    schemes: dict[str, int]
    kept: list[dict[str, str]]
    raised: list[dict[str, str]]
    report: str | None
    notes: list[str]
    check: "Agreement | None" = None


def quantize(request: Request, progress: Progress | None = None) -> QuantizeResult:
    """Quantize as `request` says. Nothing is written where a bound does not hold: EdgertError then tells by how much.

    Raises UsageError for wrong use and bad data, UnsupportedModel for a model that cannot be quantized.
    """
    from quant.contract import Options
    from quant.evaluate import Bound
    from quant.model import save
    from quant.quantize import quantize as quantize_model
    from quant.quantize import scheme_named

    scheme = scheme_named(request.scheme)
    if scheme.calibrated and request.calibrate is None:
        raise UsageError(f"the scheme {scheme.name} needs --calibrate: an .npz file or a folder with one file a sample")
    if os.path.exists(request.output) and os.path.samefile(request.model, request.output):
        raise UsageError(f"{request.output} is the model itself: give -o another name")
    for path in filter(None, (request.output, request.report)):
        if not Path(path).absolute().parent.is_dir():
            raise UsageError(f"{path}: the folder does not exist")
    tell = (lambda what, done, total: progress(what, done, total or 0)) if progress else None
    samples = None if request.calibrate is None else calibration(request.calibrate, request.model)
    measure = samples if request.evaluate is None else calibration(request.evaluate, request.model)
    measured_on = request.evaluate or request.calibrate
    bound = Bound(request.max_drop, request.min_sqnr)
    wants = request.layers or request.report or request.labels or request.check or bound != Bound()
    if measure is None and wants:
        raise UsageError("measuring needs samples: give --calibrate or --evaluate")
    labels = None if request.labels is None else read_labels(request.labels)
    options = Options(**request.options)
    if scheme.name == "auto":
        options.auto.update(max_drop=request.max_drop, min_sqnr=request.min_sqnr, labels=labels)
        if request.evaluate is not None:
            options.auto["samples"] = _opened(request, measure, options)
    done = quantize_model(request.model, None, scheme, samples, options, tell)
    _check_names(options.keep, [node.name for node in done.float_model.graph.node])
    report, quality = None, None
    if measure is not None:
        report, quality = _measured(request, done, _opened(request, measure, options), labels, tell)
        if miss := bound.miss(quality):
            told = f"{quality.metric} {quality.before:.4f} -> {quality.after:.4f}, SQNR {quality.sqnr_db:.1f} dB"
            raise EdgertError(f"{request.scheme}: {miss}; reached {told}; nothing written. Try --scheme auto")
    save(done.model, request.output)
    if scheme.name == "auto" and bound == Bound():
        from quant.auto import DEFAULT_BOUND

        most = 100 * (DEFAULT_BOUND.max_drop or 0)
        done.notes.append(
            f"auto was bound to lose at most {most:g} % (give --max-drop or --min-sqnr for another bound)"
        )
    check = _checked(request, _opened(request, measure, options), progress) if request.check else None
    result = _result(request, done, report, quality, measured_on, check)
    if request.report is not None:
        from edgert.interface.quantize_report import report_html

        write_atomic(request.report, report_html(result, Path(request.model).name).encode())
    return result


def _check_names(names: frozenset[str], known: list[str]) -> None:
    """UsageError for a name in `names` that no node has, with the nearest that one has."""
    for name in sorted(names - set(known)):
        near = difflib.get_close_matches(name, known, 1, 0.0)
        raise UsageError(f"--keep {name}: no node is called that" + (f"; did you mean {near[0]}?" if near else ""))


def _opened(request: Request, source: Any, options: Any) -> Any:
    """Samples checked against the model's inputs, to be walked as often as need be."""
    from quant.data import Samples, open_samples
    from quant.model import read

    if isinstance(source, Samples):
        return source
    limit = options.limit if request.evaluate is None else None
    return open_samples(read(request.model), source, None, limit)


def _measured(
    request: Request, done: "Quantized", samples: Any, labels: Any, progress: Any
) -> "tuple[Report | None, Quality]":
    from quant.evaluate import Judge
    from quant.report import make_report

    judge = Judge(done.float_model, samples, labels)
    if not (request.layers or request.report):
        each = (lambda count: progress("measuring", count, None)) if progress else None
        return None, judge.quality(done.model, each=each)
    made = make_report(request.scheme, done.ready, done.model, done.layers, judge, samples, request.alone, progress)
    return made, made.quality


def _checked(request: Request, samples: Any, progress: Progress | None) -> "Agreement":
    """The written file as an artifact beside ONNX Runtime, on a few samples."""
    from edgert.interface.beside import alike, beside_onnxruntime

    try:
        return beside_onnxruntime(Path(request.output), alike(samples), progress=progress)
    except EdgertError as error:
        raise type(error)(f"{request.output} is written, but --check failed: {error}") from None


def _result(
    request: Request,
    done: "Quantized",
    report: "Report | None",
    quality: "Quality | None",
    measured_on: str | None,
    check: "Agreement | None",
) -> QuantizeResult:
    schemes: dict[str, int] = {}
    for layer in done.layers:
        schemes[layer.scheme or "float32"] = schemes.get(layer.scheme or "float32", 0) + 1
    kept = [{"layer": x.node, "op": x.op, "reason": x.reason} for x in done.layers if x.scheme is None]
    raised = [
        {"layer": x.node, "op": x.op, "scheme": x.scheme or "float32", "reason": x.reason}
        for x in done.layers
        if request.scheme == "auto" and x.reason.startswith("in ")
    ]
    return QuantizeResult(
        path=request.output,
        scheme=request.scheme,
        file_bytes=os.path.getsize(request.output),
        bytes_before=done.bytes_before,
        bytes_after=done.bytes_after,
        measured_on=measured_on if quality else None,
        quality=quality,
        drop=quality.drop if quality else None,
        ranked_by=report.ranked_by if report else None,
        layers=report.layers if report else [],
        schemes=schemes,
        kept=kept,
        raised=raised,
        report=request.report,
        notes=list(done.notes),
        check=check,
    )


def result_text(result: QuantizeResult) -> None:
    """A few lines for people, and a table of the ten worst layers where layers were measured."""
    for note in result.notes:
        click.echo(f"note: {note}")
    if result.layers:
        rows = []
        for layer in result.layers[:10]:
            alone = "" if layer.alone_db is None else f"{layer.alone_db:.1f}"
            size = f"{format_bytes(layer.bytes_before)} -> {format_bytes(layer.bytes_after)}"
            name = layer.layer if len(layer.layer) <= 60 else f"...{layer.layer[-57:]}"
            rows.append([name, layer.op, layer.scheme, alone, f"{layer.sqnr_db:.1f}", f"{layer.cosine:.4f}", size])
        columns = ["most harmful layers", "operator", "scheme", "alone dB", "SQNR dB", "cosine", "weights"]
        table(columns, rows, left=3)
    for entry in result.raised:
        click.echo(f"raised to {entry['scheme']}: {entry['layer']} ({entry['op']}): {entry['reason']}")
    told = {(entry["layer"], entry["reason"]) for entry in result.raised}
    others = [entry for entry in result.kept if (entry["layer"], entry["reason"]) not in told]
    for entry in others[:10]:
        click.echo(f"float32: {entry['layer']} ({entry['op']}): {entry['reason']}")
    if len(others) > 10:
        click.echo(f"float32: {len(others) - 10} more (--json lists them)")
    if (quality := result.quality) is not None:
        click.echo(f"{quality.metric}: {quality.before:.4f} -> {quality.after:.4f} on {quality.samples} samples")
        agreement = "" if quality.agreement is None else f", same top-1 as float32 {100 * quality.agreement:.1f} %"
        click.echo(f"output {quality.output}: SQNR {quality.sqnr_db:.1f} dB, cosine {quality.cosine:.5f}{agreement}")
    if result.check is not None:
        click.echo(f"compiled, beside ONNX Runtime on {result.check.samples} samples: {result.check.told()}")
    counts = ", ".join(f"{name} {count}" for name, count in result.schemes.items())
    share = f" ({result.bytes_after / result.bytes_before:.2f} of them)" if result.bytes_before else ""
    sizes = f"{format_bytes(result.bytes_before)} -> {format_bytes(result.bytes_after)}{share}"
    click.echo(f"{result.path}: {result.scheme}, constants {sizes}; layers: {counts or 'none'}")
    if result.report:
        click.echo(f"{result.report}: the report")
