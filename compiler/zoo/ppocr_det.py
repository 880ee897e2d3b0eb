"""PP-OCRv4's text detector: a map of where text stands (PaddleOCR's mobile model, as ONNX)."""

from compiler.zoo.model import Built, Files, Wheel, ZooModel

_ONNX = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"

_FACTS = {
    "shapes": {"x": "1x3x736x736"},
    "preprocess": {
        "layout": "NCHW",
        "channels": "BGR",
        "size": "any, height and width multiples of 32 (shorter side 736 or more)",
        "scale": 1 / 255,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "formula": "(pixel * scale - mean) / std",
    },
    "postprocess": "text where the probability exceeds 0.3",
}


def build(members: Files) -> Built:
    """The wheel's ONNX as it is: input `x` float32 [batch, 3, height, width], both multiples of 32."""
    return Built({"ppocr-det.onnx": members[_ONNX]}, _FACTS)


MODEL = ZooModel(
    name="ppocr-det",
    about="text detection: probability of text at each pixel",
    license="Apache-2.0",
    wheel=Wheel(
        project="rapidocr-onnxruntime",
        version="1.4.4",
        sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
        nbytes=14915192,
    ),
    members=(_ONNX,),
    build=build,
)
