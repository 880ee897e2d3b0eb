"""MoE (domain com.microsoft): a mixture of experts whose router keeps the best k of each token; only the experts that
some token takes are read. Answers are ONNX Runtime's (contrib_ops/cpu/moe), which has no second matrix in (fc3).
"""

from __future__ import annotations

import numpy as np

from targets.kernels.experts import ACTIVE, Layer, experts, route
from targets.kernels.stage import Const, Stage, Temp
from targets.kernels.tensor import Tensor, same_dim
from targets.target import Target

from .numbers import number
from .registry import Custom, Node, Unsupported, op

WEIGHTS = {2: "fc1", 4: "fc2", 6: "fc3"}
BIASES = (3, 5, 7)


@op("MoE", domain="com.microsoft")
def moe(node: Node) -> Custom:
    """x float32 [T, K], router's logits float32 [T, E], fc1 [E, F, K], -, fc2 [E, N, F], -, perhaps fc3 [E, F, K] ->
    float32 [T, N]: the sum over a token's best k experts of softmax * fc2(act(fc1 x) * (fc3 x or 1)).

    Attributes: k; activation_type (relu, silu, gelu); normalize_routing_weights: softmax over the best k alone.
    """
    x, router, gate, down, up = (node.input(i) for i in (0, 1, 2, 4, 6))
    early = node.input(8)  # of compiler/passes/pre_gate.py: the next router's logits for x
    if x is None or router is None or gate is None or down is None:
        raise Unsupported("MoE without weights of two layers", "fc1 and fc2")
    if any(node.input(i) is not None for i in BIASES) or node.attr("use_sparse_mixer", 0):
        raise Unsupported("MoE with biases or a sparse mixer", "experts without biases")
    activation, k = str(node.attr("activation_type", "relu")), int(node.attr("k", 1))
    if activation not in ACTIVE:
        raise Unsupported(f"MoE with activation {activation}", ", ".join(ACTIVE))
    if any(t.dtype != "float32" for t in (x, router, gate, down)) or (x.ndim, router.ndim, gate.ndim) != (2, 2, 3):
        raise Unsupported(f"MoE of {x.dtype} {list(x.shape)}", "float32 [tokens, width]")
    count, neurons, depth = (number(d, "experts") for d in gate.shape)
    width = number(down.shape[1], "width")
    fits = (count, width, neurons) == tuple(number(d, "experts") for d in down.shape)
    fits = fits and same_dim(x.shape[1], depth) and same_dim(router.shape[1], count)
    if not fits or (up is not None and tuple(up.shape) != tuple(gate.shape)) or not 0 < k <= count:
        raise Unsupported(f"MoE of {list(gate.shape)} and {list(down.shape)} weights, k = {k}", "weights that fit")
    sources = [t.data for t in (gate, up, down) if t is not None]

    def bundled() -> np.ndarray:
        first, *more = (np.asarray(source()) for source in sources if source is not None)
        return np.concatenate([first, *more[:-1], more[-1].transpose(0, 2, 1)], axis=2)

    def emit(target: Target, results: list[Tensor]) -> list[Stage]:
        if any(source is None for source in sources):
            raise Unsupported("MoE with weights that are computed", "constants")
        depths = depth * (len(sources) - 1)
        key = f"experts {gate.name} {'' if up is None else up.name} {down.name}"
        table = Const((count, neurons, depths + width), "float32", bundled, key, f"{gate.name}.experts")
        routes = Temp((x.shape[0], count), "float32", "routes")
        taken, chosen = Temp((count,), "int32", "taken"), Temp((count,), "int32", "chosen")
        layer = Layer(table, neurons, depth, width, up is not None, activation)
        normalize = bool(node.attr("normalize_routing_weights", 0))
        first, ahead = [route(router, k, normalize, routes, taken, chosen, target)], None
        if early is not None:
            others = int(early.shape[1])
            spare = Temp(early.shape, "float32", "early"), Temp((others,), "int32", "taken")
            ahead = Temp((others,), "int32", "ahead")
            first.append(route(early, min(k, others), True, *spare, ahead, target))
        return [*first, experts(x, routes, chosen, ahead, layer, results[0], target)]

    inputs = tuple(t for t in (x, router, early) if t is not None)
    return Custom([Tensor((x.shape[0], width), "float32", "mixed")], emit, inputs)
