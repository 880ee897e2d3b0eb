"""A decoder's rows as tiles where the target has AMX and rows are many."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.decoder import open_gguf
from compiler.decoder.graph import to_graph
from compiler.frontend import load
from compiler.passes import dead_code, tiles
from compiler.passes.edit import Edit
from compiler.verify import verify
from targets import get_target
from targets.kernels.half_rows import LEAST
from targets.kernels.tensor import largest
from tests.decoder.small import CASES, write


def edit_of(folder: Path, kinds: tuple[str, ...], rows: int) -> Edit:
    write(folder / "m.gguf", replace(CASES["llama"], kinds=kinds))
    opened = open_gguf(folder / "m.gguf")
    dims = {"seq": (1, rows), "want": (1, 8), "context": (64, 64)}
    model, facts = load(to_graph(opened.decoder, opened.weights), {}, dims)
    assert not facts.problems
    return Edit(model, facts)


@pytest.mark.parametrize("kinds", [("Q4_1",), ("Q8_0",), ("Q4_1", "Q8_0")])
def test_rows_become_tiles(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    edit = edit_of(tmp_path, kinds, 256)
    before = Counter(node.op_type for node in edit.nodes())
    assert tiles.run(edit, get_target("x86-64-amx"))
    dead_code.run(edit, get_target("x86-64-amx"))
    verify(edit.model, edit.facts, "tiles")
    layers = CASES["llama"].layers - 1  # but for the last one's, whose rows are those that are wanted
    after = Counter(node.op_type for node in edit.nodes())
    assert after - before == {"GatedBlocks": layers}
    assert before - after == {"GatedCodes": layers, "JointBlocks": layers}
    for node in edit.nodes(domain="edgert"):
        if node.op_type in ("GemmBlocks", "JointBlocks", "GatedBlocks", "NormCodes", "QuantizeRows"):
            few = largest(edit.shape(node.inputs[0])[0]) < LEAST
            assert edit.attr(node, "tiles", 0) == (0 if few else 1), node.name
    assert not tiles.run(edit, get_target("x86-64-amx"))


@pytest.mark.parametrize(("target", "rows"), [("x86-64-avx512vnni", 256), ("x86-64-amx", 16)])
def test_codes_stay(tmp_path: Path, target: str, rows: int) -> None:
    assert not tiles.run(edit_of(tmp_path, ("Q4_1",), rows), get_target(target))
