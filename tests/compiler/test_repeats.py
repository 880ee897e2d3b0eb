"""Kernels that calls alike share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgert
from compiler import repeats
from compiler.repeats import Repeats
from targets import get_target
from targets.kernels.builder import Builder
from targets.kernels.registry import Call
from targets.kernels.stage import Const, Stage
from targets.kernels.tensor import Tensor
from tests.llm.small_models import gguf


def _const(t: Tensor, known: bool) -> Const:
    again = (lambda to, attrs: _const(to(t), known)) if known else None
    return Const((4,), "float32", lambda: np.zeros(4, np.float32), t.name, again=again)


def _stages(call: Call, known: bool = True) -> list[Stage]:
    """out[i] = x[i] + a constant made of the weight's."""
    b = Builder("sum")
    with b:
        x, w, out = b.arg(call.need(0)), b.arg(_const(call.need(1), known)), b.arg(call.result)
        with b.parallel(4) as i:
            b.store(out, (i,), x[i] + w[i])
    return [b.stage()]


def _call(name: str, size: int = 4, **attrs: int) -> Call:
    x, w, out = (Tensor((size,), "float32", f"{name}.{part}") for part in ("x", "w", "out"))
    return Call("edgert.GemmBlocks", attrs, [x, w], [out], out, [out])


def _asked(shared: Repeats, call: Call, known: bool = True) -> Stage:
    stages = shared.stages(call, get_target("host"), "", [], lambda: _stages(call, known))
    assert stages is not None
    return stages[0]


def test_a_call_alike_gets_the_same_function_and_its_own_operands() -> None:
    shared, second = Repeats(), _call("b")
    first, moved = _asked(shared, _call("a")), _asked(shared, second)
    assert moved.func is first.func
    x, w, out = moved.operands
    assert (x, out) == (second.inputs[0], second.result)
    assert isinstance(w, Const) and w.key == "b.w"


@pytest.mark.parametrize("other", [_call("b", size=5), _call("b", bits=4), _call("b")])
def test_what_is_not_alike_is_made(other: Call) -> None:
    shared, first = Repeats(), _call("a", bits=8)
    assert _asked(shared, other).func is not _asked(shared, first).func


def test_operands_that_are_one_are_told_from_those_that_are_two() -> None:
    shared, same = Repeats(), _call("b")
    same.inputs[1] = same.inputs[0]
    assert _asked(shared, same).func is not _asked(shared, _call("a")).func


def test_constants_of_which_nothing_is_known_are_made_each_time() -> None:
    shared = Repeats()
    assert _asked(shared, _call("a"), known=False).func is not _asked(shared, _call("b"), known=False).func


@pytest.mark.parametrize("case", ["llama", pytest.param("k-quants", marks=pytest.mark.slow)])
def test_the_artifact_is_as_without(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, alike in (("with", repeats.ALIKE), ("without", {})):
        monkeypatch.setattr(repeats, "ALIKE", alike)
        edgert.compile(gguf(case), tmp_path / name, golden=False)
    assert (tmp_path / "with").read_bytes() == (tmp_path / "without").read_bytes()
