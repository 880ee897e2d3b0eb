"""One case through the whole product: compile to an artifact, load it, run it, compare."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import edgert
from edgert.errors import EdgertError, UnsupportedModel

from .cases import Case, exact_outputs, with_constant_shapes

PASSED, REFUSED, WRONG, CRASHED = "passed", "refused", "wrong", "crashed"
IMPRECISE = "compared in double precision: ONNX's expectation is off by more than its own tolerance"


@dataclass(frozen=True)
class Verdict:
    """What became of a case. constant: only with its shape-like inputs as constants."""

    name: str
    operator: str
    verdict: str
    reason: str = ""
    constant: bool = False
    seconds: float = 0.0

    def json(self) -> dict[str, Any]:
        return asdict(self)


def judge(case: Case) -> Verdict:
    """Runs the case; one that is refused again with its shape-like inputs as constants."""
    started = time.perf_counter()
    note = ""
    exact = exact_outputs(case)
    if exact is not None and _faults(case.outputs, exact, case):
        case, note = replace(case, outputs=exact), IMPRECISE
    verdict, reason = _attempt(case)
    constant = False
    if verdict == REFUSED and (other := with_constant_shapes(case)) is not None:
        again, reason_again = _attempt(other)
        if again != REFUSED:
            verdict, reason, constant = again, reason_again, True
    reason = reason or note
    return Verdict(case.name, case.operator, verdict, reason, constant, round(time.perf_counter() - started, 3))


def _attempt(case: Case) -> tuple[str, str]:
    if any(not isinstance(v, np.ndarray | np.generic) for v in (*case.inputs.values(), *case.outputs.values())):
        kind = "sequence or optional input or output"
    elif any(v.dtype.kind in "OUS" for v in (*case.inputs.values(), *case.outputs.values())):
        kind = "string input or output"
    else:
        kind = ""
    with tempfile.TemporaryDirectory() as folder:
        source, artifact = Path(folder, "case.onnx"), Path(folder, "case.edge")
        source.write_bytes(case.model.SerializeToString())
        try:
            edgert.compile(source, artifact, shapes=_open_shapes(case), dims=_sequence_dims(case), golden=False)
        except UnsupportedModel as error:
            return REFUSED, _brief(error)
        except EdgertError as error:
            return CRASHED, f"compile: {_brief(error)}"
        except Exception as error:
            return CRASHED, f"compile: {type(error).__name__}: {_brief(error)}"
        if kind:
            return CRASHED, f"compiled in spite of a {kind}"
        try:
            with edgert.load(artifact, threads=1) as model:
                answers = model.run(case.inputs)
        except Exception as error:
            return CRASHED, f"run: {type(error).__name__}: {_brief(error)}"
    faults = _faults(answers, case.outputs, case)
    return (WRONG, faults) if faults else (PASSED, "")


def _faults(answers: Mapping[str, Any], wanted: Mapping[str, Any], case: Case) -> str:
    """What is wrong with a case's answers, output by output; nothing when they are right."""
    return "; ".join(
        fault for name, value in wanted.items() if (fault := _difference(name, answers.get(name), value, case))
    )


def _open_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Shapes for the inputs whose model leaves a dimension open."""
    shapes = {}
    for value in case.model.graph.input:
        array = case.inputs.get(value.name)
        kind = value.type.tensor_type
        known = kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)
        if value.type.HasField("tensor_type") and not known and isinstance(array, np.ndarray):
            shapes[value.name] = tuple(array.shape)
    return shapes


def _sequence_dims(case: Case) -> dict[str, tuple[int, int]]:
    """Bounds for the dimensions that only sequences have: those are refused, but for being sequences."""
    names = set()
    for value in case.model.graph.input:
        if value.type.HasField("sequence_type"):
            names |= {d.dim_param for d in value.type.sequence_type.elem_type.tensor_type.shape.dim if d.dim_param}
    for value in case.model.graph.input:
        names -= {d.dim_param for d in value.type.tensor_type.shape.dim}
    return dict.fromkeys(names, (1, 64))


def _difference(name: str, got: np.ndarray | None, wanted: Any, case: Case) -> str:
    """What is wrong with an output; nothing when it is right. Integers must be equal, floats within the tolerance."""
    wanted = np.asarray(wanted)
    if got is None:
        return f"{name} is missing"
    if got.dtype != wanted.dtype:
        return f"{name} is {got.dtype}, expected {wanted.dtype}"
    if got.shape != wanted.shape:
        return f"{name} has shape {got.shape}, expected {wanted.shape}"
    if wanted.dtype.kind in "iub":
        unequal = int((got != wanted).sum())
        return f"{name}: {unequal} of {wanted.size} elements differ" if unequal else ""
    if wanted.dtype.kind == "c":
        close = np.isclose(got, wanted, case.rtol, case.atol, equal_nan=True)
    else:
        close = np.isclose(got.astype(np.float64), wanted.astype(np.float64), case.rtol, case.atol, equal_nan=True)
    if close.all():
        return ""
    at = np.unravel_index(int(np.argmin(close)), wanted.shape)
    return f"{name}: {int((~close).sum())} of {wanted.size} differ, first {got[at]} for {wanted[at]}"


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


__all__ = ["CRASHED", "PASSED", "REFUSED", "WRONG", "Verdict", "judge"]
