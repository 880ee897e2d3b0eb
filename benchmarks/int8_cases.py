"""The quantized models that are measured, and how they are made: one ONNX file that all runtimes get."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import CASES, FOLDER, Case, prepare
from benchmarks.samples import Sample, samples
from edgert.interface.build import build

CALIBRATION, COMPARED = 8, 4  # samples: the first calibrate, runtimes are compared on those after them


@dataclass(frozen=True)
class Int8Case:
    """A float32 model with the shapes it is measured at, and the scheme that quantizes it."""

    case: Case
    scheme: str

    @property
    def name(self) -> str:
        """The model and, where it is not the usual one, the scheme."""
        return self.case.name if self.scheme == "int8" else f"{self.case.name}, {self.scheme.removeprefix('int8-')}"

    @property
    def onnx(self) -> Path:
        """The quantized model, which every runtime but LiteRT reads."""
        return FOLDER / f"{self.case.name}.{self.scheme}.bench.onnx"

    @property
    def artifact(self) -> Path:
        """The artifact compiled from it."""
        return self.onnx.with_suffix(".edge")

    @property
    def tflite(self) -> Path:
        """The same integers for LiteRT."""
        return self.onnx.with_suffix(".tflite")


_BY_NAME = {case.name: case for case in CASES}
INT8_CASES = [
    *(Int8Case(_BY_NAME[name], "int8") for name in ("magika", "mobilenet-v2", "efficientnet-lite0", "minilm")),
    Int8Case(_BY_NAME["minilm"], "int8-dynamic"),
    Int8Case(_BY_NAME["ppocr-det"], "int8"),
]


def prepare_int8(int8: Int8Case) -> list[Sample]:
    """Quantize and compile, the float32 model too; gives the samples to compare on. Raises EdgertError."""
    import onnx

    from quant.quantize import quantize

    prepare(int8.case)
    found = samples(int8.case, CALIBRATION + COMPARED)
    model = onnx.load(int8.case.onnx)
    for value in model.graph.input:  # static, as an artifact is and as LiteRT needs it
        for dim, size in zip(value.type.tensor_type.shape.dim, int8.case.shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
    quantize(model, int8.onnx, int8.scheme, found[:CALIBRATION])
    build(str(int8.onnx), str(int8.artifact))
    return found[CALIBRATION:]
