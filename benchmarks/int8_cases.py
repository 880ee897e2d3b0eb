"""The quantized models that are measured, and how they are made: one ONNX file that all runtimes get."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import CASES, FOLDER, Case, prepare
from benchmarks.samples import Sample, samples
from edgert.interface.build import build

PRODUCTS = ("Conv", "Gemm", "MatMul")
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
    def rival(self) -> Path:
        """The model as the peers like it better, who run both and count the faster: of a static scheme with nothing
        but products with weights quantized, of a dynamic one as ONNX Runtime's own tool writes it."""
        return self.onnx.with_suffix(".rival.onnx")

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
    from onnxruntime.quantization import quantize_dynamic

    from quant.contract import Options
    from quant.quantize import quantize

    prepare(int8.case)
    found = samples(int8.case, CALIBRATION + COMPARED)
    model = onnx.load(int8.case.onnx)
    for value in model.graph.input:  # static, as an artifact is and as LiteRT needs it
        for dim, size in zip(value.type.tensor_type.shape.dim, int8.case.shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
    quantize(model, int8.onnx, int8.scheme, found[:CALIBRATION])
    if int8.scheme == "int8":
        weights = {tensor.name for tensor in model.graph.initializer}
        products = {n.name for n in model.graph.node if n.op_type in PRODUCTS and n.input[1] in weights}
        quantize(model, int8.rival, int8.scheme, found[:CALIBRATION], Options(only=frozenset(products)))
    else:
        quantize_dynamic(model, int8.rival, per_channel=True)
    build(str(int8.onnx), str(int8.artifact))
    return found[CALIBRATION:]
