"""A sample of ONNX's node cases: none wrong, none crashed, no fewer passed than recorded. All: `make conformance`."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from .__main__ import RECORD, SAMPLE
from .cases import Case, all_cases, with_constant_shapes
from .report import BEGIN, END, rows, totals, update_readme
from .verdict import judge
from .workers import run_cases


@pytest.mark.slow
def test_every_eighth_case() -> None:
    recorded = json.loads(RECORD.read_text())
    cases = all_cases()[::SAMPLE]
    verdicts = [verdict for _, verdict in run_cases(cases, 2)]
    assert [v for v in verdicts if v["verdict"] in ("wrong", "crashed")] == []
    assert sum(v["verdict"] == "passed" for v in verdicts) >= recorded["sample"]


def _case(outputs: dict[str, np.ndarray], shape: np.ndarray | None = None) -> Case:
    """Adds 1 to x [3]; with `shape` it reshapes to what that input says."""
    x = np.array([1, 2, 3], np.float32)
    nodes = [helper.make_node("Add", ["x", "one"], ["z" if shape is not None else "y"])]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])]
    inputs: dict[str, np.ndarray] = {"x": x}
    if shape is not None:
        nodes.append(helper.make_node("Reshape", ["z", "shape"], ["y"]))
        given.append(helper.make_tensor_value_info("shape", TensorProto.INT64, [len(shape)]))
        inputs["shape"] = shape
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    one = onnx.numpy_helper.from_array(np.ones(1, np.float32), "one")
    graph = helper.make_graph(nodes, "g", given, made, [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return Case("case", "Add", model, inputs, dict(outputs), 1e-3, 1e-7)


def test_verdicts_tell_right_from_wrong() -> None:
    right = np.array([2, 3, 4], np.float32)
    assert judge(_case({"y": right})).verdict == "passed"
    for wrong in (right + np.float32(0.1), right.astype(np.float64), right.reshape(3, 1), right[:2]):
        assert judge(_case({"y": wrong})).verdict == "wrong"


def test_a_shape_given_at_run_time_is_baked_in_and_counted() -> None:
    case = _case({"y": np.array([[2], [3], [4]], np.float32)}, np.array([3, 1]))
    baked = with_constant_shapes(case)
    assert baked is not None
    assert list(baked.inputs) == ["x"]
    verdict = judge(case)
    assert (verdict.verdict, verdict.constant) == ("passed", True)


def test_a_dying_worker_costs_one_case(monkeypatch: pytest.MonkeyPatch) -> None:

    from . import verdict as module

    right = _case({"y": np.array([2, 3, 4], np.float32)})
    fatal = Case("fatal", "Fatal", right.model, right.inputs, right.outputs, 0, 0)
    real = module.judge

    def judge_or_die(case: Case) -> module.Verdict:
        if case.name == "fatal":
            os.kill(os.getpid(), signal.SIGSEGV)
        return real(case)

    monkeypatch.setattr(module, "judge", judge_or_die)
    found = dict(run_cases([right, fatal, right], 1))
    assert [found[k]["verdict"] for k in range(3)] == ["passed", "crashed", "passed"]
    assert "SIGSEGV" in found[1]["reason"]


def test_readme_changes_between_the_markers_only(tmp_path: Path) -> None:
    verdicts = [
        {"name": "a", "operator": "Add", "verdict": "passed", "reason": "", "constant": True},
        {"name": "b", "operator": "Add", "verdict": "refused", "reason": "not | like this", "constant": False},
        {"name": "c", "operator": "Loop", "verdict": "crashed", "reason": "died", "constant": False},
    ]
    assert totals(verdicts).startswith("1 passed, 1 failed, 1 skipped")
    assert [(r.operator, r.cases, r.passed, r.constant, r.refused, r.wrong) for r in rows(verdicts)] == [
        ("Add", 2, 1, 1, 1, 0), ("Loop", 1, 0, 0, 0, 1),
    ]  # fmt: skip
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    update_readme(readme, verdicts)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| Add | 1 | 2 | not \\| like this |" in text
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="no pair of markers"):
        update_readme(readme, verdicts)
