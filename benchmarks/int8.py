"""How long one run of a quantized model takes, beside own float32 and other runtimes on the same integers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import edgert
from benchmarks.executed import Executed, edgert_executed, onnxruntime_executed, openvino_executed
from benchmarks.int8_cases import Int8Case
from benchmarks.samples import Sample
from edgert.errors import EdgertError
from edgert.interface.agreement import Agreement
from edgert.interface.bench import total_macs
from edgert.interface.beside import beside_onnxruntime
from edgert.interface.peers import open_peer
from edgert.interface.race import race

# What is raced. OpenVINO runs twice, held to float32 outside the integers and free to choose: the faster one counts.
PEERS = {"onnxruntime": ("onnxruntime",), "openvino": ("openvino", "openvino-any"), "litert": ("litert",)}
Answer = dict[str, np.ndarray]


@dataclass(frozen=True)
class Int8Latency:
    """Best milliseconds of each runtime, None where it refuses; edgert's 10^9 operations a second (a multiply-add is
    two), and the most that each unit of the machine can do with so many threads."""

    model: str
    threads: int
    edgert_ms: float
    float_ms: float
    peers_ms: dict[str, float | None]
    rate: float
    peaks: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Int8Answers:
    """What the runtimes computed: products on integers in each, how edgert's answers differ from ONNX Runtime's on the
    same file, and the mean cosine between the quantized model's answers and the float32 model's."""

    model: str
    executed: dict[str, Executed]
    agreement: Agreement
    cosine: float


def measure(int8: Int8Case, threads: int, seconds: float, inputs: Sample) -> Int8Latency:
    """Race the runtimes on the prepared `int8`, `seconds` for each."""
    with (
        edgert.load(int8.artifact, threads=threads) as model,
        edgert.load(int8.case.artifact, threads=threads) as plain,
    ):
        contenders: dict[str, Callable[[], object]] = {
            "edgert": lambda: model.run(inputs),
            "float": lambda: plain.run(inputs),
        }
        for name in (variant for variants in PEERS.values() for variant in variants):
            for number, file in enumerate(files_for(name, int8)):
                try:
                    contenders[f"{name} {number}"] = open_peer(name, file(), inputs, threads)
                except EdgertError as refusal:
                    print(f"{int8.name}: {name}: {refusal}")
        best = {name: 1e3 * timing.best for name, timing in race(contenders, seconds).items()}
        macs = total_macs(plain.manifest)  # of the float32 model: what there is to do, however it is done
    peers = {
        peer: min((ms for name, ms in best.items() if name.split(" ")[0] in variants), default=None)
        for peer, variants in PEERS.items()
    }
    return Int8Latency(int8.name, threads, best["edgert"], best["float"], peers, 2 * macs / best["edgert"] / 1e6)


def files_for(peer: str, int8: Int8Case) -> list[Callable[[], Path]]:
    """The forms of the model that a peer runs, of which its faster one counts."""
    if peer == "litert":
        return [lambda: write_tflite(int8)]
    return [lambda: int8.onnx, lambda: int8.rival]


def write_tflite(int8: Int8Case) -> Path:
    """The TFLite file with the same integers. Raises EdgertError where the model has no such form here."""
    try:
        from benchmarks.tflite_writer import write
    except ModuleNotFoundError as error:
        raise EdgertError(f"needs the package {error.name}: pip install 'edgert[bench]'") from None
    write(int8.onnx, int8.tflite)
    return int8.tflite


def compare(int8: Int8Case, inputs: list[Sample]) -> Int8Answers:
    """Run the prepared `int8` on all `inputs` and look into the runtimes."""
    answers = _answers(int8.artifact, inputs)
    floats = [_onnxruntime(int8.case.onnx, list(answers[0]), sample) for sample in inputs]
    with edgert.load(int8.artifact, threads=1) as model:
        executed = {"edgert": edgert_executed(model.manifest)}
    executed["onnxruntime"] = onnxruntime_executed(int8.onnx)
    try:
        executed["openvino"] = openvino_executed(int8.onnx, inputs[0])
    except (ModuleNotFoundError, RuntimeError) as refusal:
        print(f"{int8.name}: openvino: {refusal}")
    agreement = beside_onnxruntime(int8.onnx, inputs, int8.artifact)
    return Int8Answers(int8.name, executed, agreement, cosine(zip(answers, floats, strict=True)))


def _answers(artifact: Path, inputs: list[Sample]) -> list[Answer]:
    with edgert.load(artifact, threads=1) as model:
        return [{name: array.copy() for name, array in model.run(sample).items()} for sample in inputs]


def _onnxruntime(model: Path, names: list[str], sample: Sample) -> Answer:
    return dict(zip(names, open_peer("onnxruntime", model, sample, 1)(), strict=True))


def cosine(pairs: Iterable[tuple[Answer, Answer]]) -> float:
    """The mean cosine between the first outputs of each pair."""
    found = []
    for ours, theirs in pairs:
        a, b = (np.ravel(next(iter(answer.values()))).astype(np.float64) for answer in (ours, theirs))
        found.append(float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0)))
    return float(np.mean(found))
