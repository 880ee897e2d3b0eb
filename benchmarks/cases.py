"""The models that are measured, with the shapes they are measured at."""

from dataclasses import dataclass, field
from pathlib import Path

from edgert.interface.build import BuildReport, build

FOLDER = Path("models")
TOKENS = (1, 128)


@dataclass(frozen=True)
class Case:
    """A model `edgert pull` knows, and the shapes its free dimensions get."""

    name: str
    about: str
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def onnx(self) -> Path:
        """The model file."""
        return FOLDER / f"{self.name}.onnx"

    @property
    def artifact(self) -> Path:
        """The artifact compiled for these shapes."""
        return FOLDER / f"{self.name}.bench.edge"

    @property
    def shape_options(self) -> list[str]:
        """The shapes as options of `edgert compile`."""
        return [f"--shape={name}={'x'.join(map(str, shape))}" for name, shape in self.shapes.items()]


CASES = [
    Case("magika", "file type, 2,048 bytes", {"bytes": (1, 2048)}),
    Case("silero-vad", "speech, 512 samples"),
    Case("mobilenet-v2", "image 224 x 224"),
    Case("efficientnet-lite0", "image 224 x 224"),
    Case("minilm", "128 tokens", {"input_ids": TOKENS, "attention_mask": TOKENS, "token_type_ids": TOKENS}),
    Case("ppocr-det", "image 480 x 480", {"x": (1, 3, 480, 480)}),
]


def prepare(case: Case) -> BuildReport:
    """Pull the model where it is missing, and compile it afresh (the kernel cache makes that quick)."""
    from compiler.zoo import pull

    if not case.onnx.is_file():
        pull(case.name, FOLDER)
    return build(str(case.onnx), str(case.artifact), shapes=case.shapes)
