"""Silero VAD, 16 kHz: the probability of speech in 32 ms of sound, with a recurrent state.

The wheel holds several exports of the same weights. This is the one for 16 kHz alone: static shapes and no `If`,
where the general one carries both sample rates and 25 `If` nodes.
"""

from compiler.zoo.model import Built, Files, Wheel, ZooModel

_ONNX = "silero_vad/data/silero_vad_openvino_16k.onnx"

_FACTS = {
    "preprocess": {
        "sample_rate": 16000,
        "range": [-1.0, 1.0],
        "frame": 512,
        "context": 64,
        "formula": "input = the last 64 samples of the frame before (zeros at first), then 512 new samples",
    },
    "state": {"input": "state", "output": "stateN", "initial": 0.0},
    "postprocess": "speech where output is 0.5 or more",
}


def build(members: Files) -> Built:
    """The wheel's ONNX as it is: `input` [1, 576], `state` [2, 1, 128] -> `output` [1, 1], `stateN`; all float32."""
    return Built({"silero-vad.onnx": members[_ONNX]}, _FACTS)


MODEL = ZooModel(
    name="silero-vad",
    about="voice activity detection at 16 kHz, 32 ms a step",
    license="MIT",
    wheel=Wheel(
        project="silero-vad",
        version="6.2.3",
        sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        nbytes=11317527,
    ),
    members=(_ONNX,),
    build=build,
)
