"""Other runtimes to compare with. Each is optional: pip install 'edgert[bench]'."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgert.errors import EdgertError, UsageError

Arrays = Mapping[str, np.ndarray]
# Takes a model's path, its inputs and the number of threads; gives a call that runs it once and returns the outputs.
Peer = Callable[[Path, Arrays, int], Callable[[], list[np.ndarray]]]


def open_peer(name: str, model: Path, inputs: Arrays, threads: int) -> Callable[[], list[np.ndarray]]:
    """A call that runs `model` on `inputs` once in the runtime `name`.

    Raises UsageError where the runtime is unknown or not installed, EdgertError where it refuses the model.
    """
    if name not in PEERS:
        raise UsageError(f"--against {name}: unknown; known are {', '.join(PEERS)}")
    try:
        return PEERS[name](model, inputs, threads)
    except ModuleNotFoundError as error:
        raise UsageError(f"--against {name} needs the package {error.name}: pip install 'edgert[bench]'") from None
    except Exception as error:  # every runtime has exceptions of its own
        raise EdgertError(f"{name} refuses {model}: {next(iter(str(error).splitlines()), error)}") from error


def _onnxruntime(model: Path, inputs: Arrays, threads: int) -> Callable[[], list[np.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feed = dict(inputs)
    return lambda: session.run(None, feed)


def _openvino(model: Path, inputs: Arrays, threads: int) -> Callable[[], list[np.ndarray]]:
    # f32: on CPUs with bf16 it would otherwise compute in less precision than the others
    return _openvino_with({"INFERENCE_PRECISION_HINT": "f32"}, model, inputs, threads)


def _openvino_any(model: Path, inputs: Arrays, threads: int) -> Callable[[], list[np.ndarray]]:
    """OpenVINO in the precision it likes best here for what is not quantized, such as bf16."""
    return _openvino_with({}, model, inputs, threads)


def _openvino_with(
    settings: dict[str, str], model: Path, inputs: Arrays, threads: int
) -> Callable[[], list[np.ndarray]]:
    import openvino

    core = openvino.Core()
    graph = core.read_model(str(model))
    graph.reshape({name: list(array.shape) for name, array in inputs.items()})  # static, as an artifact is
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **settings}
    compiled = core.compile_model(graph, "CPU", config)
    request = compiled.create_infer_request()
    for name, array in inputs.items():
        request.set_tensor(name, openvino.Tensor(array))

    def call() -> list[np.ndarray]:
        request.infer()
        return [request.get_output_tensor(i).data for i in range(len(compiled.outputs))]

    return call


def _litert(model: Path, inputs: Arrays, threads: int) -> Callable[[], list[np.ndarray]]:
    """LiteRT on a TFLite file; images are given to it channels-last, as such files have them."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), num_threads=threads)
    interpreter.allocate_tensors()
    arrays = dict(inputs)
    for entry in interpreter.get_input_details():
        array = arrays[entry["name"]]
        interpreter.set_tensor(entry["index"], array.transpose(0, 2, 3, 1).copy() if array.ndim == 4 else array)
    numbers = [entry["index"] for entry in interpreter.get_output_details()]

    def call() -> list[np.ndarray]:
        interpreter.invoke()
        return [interpreter.get_tensor(number) for number in numbers]

    return call


PEERS: dict[str, Peer] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino-any": _openvino_any,
    "litert": _litert,
}
