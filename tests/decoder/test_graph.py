"""The graph that is compiled: what reads weights in blocks, and what reads floats."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest

from compiler.decoder import open_gguf
from compiler.decoder.graph import to_graph
from tests.decoder.small import CASES, write


def graph_of(case: str, kinds: tuple[str, ...], folder: Path) -> ir.Graph:
    write(folder / "m.gguf", replace(CASES[case], kinds=kinds))
    opened = open_gguf(folder / "m.gguf")
    return to_graph(opened.decoder, opened.weights).graph


@pytest.mark.parametrize(("kinds", "outputs"), [(("Q8_0",), 3), (("Q4_1",), 4), (("Q4_1", "Q8_0"), 4)])
def test_blocks_everywhere(kinds: tuple[str, ...], outputs: int, tmp_path: Path) -> None:
    """Each layer's products of the same rows are one node; rows are quantized where they are made."""
    nodes = list(graph_of("llama", kinds, tmp_path))
    layers = CASES["llama"].layers
    count = Counter(node.op_type for node in nodes)
    assert count == {
        "GatherBlocks": 1, "NormCodes": 2 * layers + 1, "JointBlocks": 2 * layers, "CachedAttention": layers,
        "QuantizeRows": layers, "GemmBlocks": 2 * layers + 1, "GatedCodes": layers, "Add": 2 * layers, "Gather": 2,
        "Identity": 1,
    }  # fmt: skip
    assert max(len(node.outputs) for node in nodes if node.op_type == "NormCodes") == outputs


def test_floats_everywhere(tmp_path: Path) -> None:
    nodes = list(graph_of("llama", ("F32",), tmp_path))
    layers = CASES["llama"].layers
    assert {node.op_type for node in nodes if node.domain} == {"CachedAttention"}
    assert sum(node.op_type == "Gemm" for node in nodes) == 7 * layers + 1


def test_types_mixed(tmp_path: Path) -> None:
    """Of rows that both kinds of weights read there are both kinds."""
    nodes = list(graph_of("llama", ("Q8_0", "F16"), tmp_path))
    read = {value.name for node in nodes for value in node.inputs if value is not None}
    for node in nodes:
        if node.op_type == "QuantizeRows":
            assert node.inputs[0] is not None
        if node.op_type == "JointBlocks":
            assert len(node.outputs) == 2
    normal = {str(node.outputs[0].name) for node in nodes if node.op_type == "RMSNormalization"}
    assert normal and normal <= read


@pytest.mark.parametrize("case", CASES)
def test_every_value_is_defined_before_it_is_read(case: str, tmp_path: Path) -> None:
    graph = graph_of(case, CASES[case].kinds, tmp_path)
    known = {value.name for value in [*graph.inputs, *graph.initializers.values()]}
    for node in graph:
        assert {value.name for value in node.inputs if value is not None} <= known, node.name
        names = [value.name for value in node.outputs]
        assert len(set(names)) == len(names) and not known & set(names), node.name
        known |= set(names)
