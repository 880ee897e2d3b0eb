"""The tables of measured figures, as Markdown."""

import datetime
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from benchmarks import int8, latency, process
from benchmarks.peak import measure_peak
from benchmarks.peak_kernels import units
from benchmarks.readme import markdown
from edgert.interface.devices import cpu_name
from edgert.units import format_bytes

# What one unit multiplies, in words.
UNITS = {"float32": "float32", "vpdpbusd": "int8 vectors", "pmaddwd": "int8 vectors", "amx": "int8 AMX tiles"}
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "litert": "LiteRT"}


def headline(wanted: Sequence[str], peers: Sequence[str]) -> str:
    """When, on what with which peaks of `wanted` units, against what."""
    peaks = "; ".join(
        f"{UNITS[unit]} {', '.join(f'{measure_peak(count, unit=unit):,.0f}' for count in (1, 2))}" for unit in wanted
    )
    return (
        f"Measured {datetime.date.today().isoformat()} on {cpu_name()} (peak in 10^9 operations a second with 1 and 2 "
        f"threads, measured: {peaks}), against {', '.join(map(_installed, peers))}. Best of many runs, in turns, in "
        "one process; a ratio above 1 means that edgert is faster.\n"
    )


def _installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"


def _beside(ours: float, theirs: float | None) -> list[str]:
    return ["refused", ""] if theirs is None else [f"{theirs:.2f}", f"{theirs / ours:.2f}"]


def latency_table(rows: list[latency.Latency]) -> str:
    """Milliseconds and ratios."""
    columns = ["model", "threads", "edgert ms", "ONNX Runtime ms", "ratio", "OpenVINO ms", "ratio", "of peak", "error"]
    cells = [
        [
            row.model,
            row.threads,
            f"{row.edgert_ms:.2f}",
            *_beside(row.edgert_ms, row.peers_ms["onnxruntime"]),
            *_beside(row.edgert_ms, row.peers_ms["openvino"]),
            f"{100 * row.share_of_peak:.0f} %",
            f"{row.error:.0e}",
        ]
        for row in rows
    ]
    return markdown(columns, cells)


def int8_table(rows: list[int8.Int8Latency]) -> str:
    """Milliseconds and ratios of the quantized models, and the share of each unit's peak."""
    bytewise = units()[1:]
    peers = [column for peer in int8.PEERS for column in (f"{TITLES[peer]} ms", "ratio")]
    columns = ["model", "threads", "edgert int8 ms", "own float32 ms", "ratio", *peers, "10^9 op/s"]
    columns += [f"of peak, {UNITS[unit].removeprefix('int8 ')}" for unit in bytewise]
    cells = []
    for row in rows:
        times = [row.float_ms, *(row.peers_ms[peer] for peer in int8.PEERS)]
        shares = [f"{100 * row.rate / row.peaks[unit]:.0f} %" for unit in bytewise]
        beside = [cell for took in times for cell in _beside(row.edgert_ms, took)]
        cells.append([row.model, row.threads, f"{row.edgert_ms:.2f}", *beside, f"{row.rate:.0f}", *shares])
    return markdown(columns, cells)


def answers_table(rows: list[int8.Int8Answers]) -> str:
    """What ran on integers, and how the answers differ."""
    columns = ["model", "on integers: edgert", "ONNX Runtime", "OpenVINO", "of those in AMX tiles"]
    columns += ["edgert from ONNX Runtime", "cosine to float32"]
    cells = []
    for row in rows:
        found = [str(row.executed.get(name, "")) for name in ("edgert", "onnxruntime", "openvino")]
        tiles = row.executed["openvino"].tiles if "openvino" in row.executed else ""
        cells.append([row.model, *found, tiles, str(row.agreement), f"{row.cosine:.4f}"])
    return markdown(columns, cells)


INT8_NOTES = """
Every runtime gets the quantized ONNX file (`edgert quantize`); ONNX Runtime and OpenVINO also one in the form they \
like better (of static schemes products with weights alone, of dynamic ones what ONNX Runtime's own tool writes), and \
their faster run counts; LiteRT gets the same integers as a TFLite file, \
its image channels-last, its last layer on a float32 input where the result is not quantized, and \
refuses what has no such form here (only convolutional networks have). OpenVINO runs twice, with float32 and \
with a precision of its choice (bf16) outside the integers, and the faster run counts. "On integers" counts \
convolutions and matrix products as each runtime reports what it made of the model. Codes are compared after every \
quantization inside the model: a rounding tie is 1 step where it arises. Shares of the peak count the float32 model's \
multiply-adds.
"""


def footprint_table(rows: list[process.Footprint]) -> str:
    """Memory and load times."""
    columns = ["model", "arena", "weights", "process peak", "ONNX Runtime", "ratio", "load ms", "ONNX Runtime ms"]
    cells = []
    for row in rows:
        sizes = [row.arena_bytes, row.weights_bytes, row.edgert_bytes, row.ort_bytes]
        ratio, loads = (
            f"{row.edgert_bytes / row.ort_bytes:.2f}",
            [f"{row.edgert_load_ms:.1f}", f"{row.ort_load_ms:.1f}"],
        )
        cells.append([row.model, *map(format_bytes, sizes), ratio, *loads])
    return markdown(columns, cells)


def compile_table(rows: list[process.CompileTime]) -> str:
    """Compile times."""
    cells = [[row.model, f"{row.cold:.1f}", f"{row.warm:.1f}"] for row in rows]
    return markdown(["model", "cold compile s", "warm s"], cells) if rows else ""
