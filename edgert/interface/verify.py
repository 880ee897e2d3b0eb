"""Run an artifact on the inputs it carries and compare with the outputs it should give."""

from dataclasses import dataclass

import numpy as np

from edgert.errors import EdgertError, UsageError
from edgert.interface.model import is_model, open_model
from edgert.runner import Model

LM_CONTEXT = 64  # more than the golden text of a language model has


@dataclass(frozen=True)
class OutputCheck:
    """One output: its largest error, that error as a share of the expected output's range, and the verdict."""

    name: str
    error: float
    relative: float
    passed: bool
    words: str = ""  # instead of the figures, for people


@dataclass(frozen=True)
class VerifyResult:
    """What `edgert verify` found: every output, the tolerance they were held to, and whether all passed."""

    name: str
    device: str
    tolerance: float
    outputs: list[OutputCheck]
    passed: bool
    of: str = "range"  # what the tolerance is a share of


def verify(path: str, threads: int | None = None, device: str = "local") -> VerifyResult:
    """Check the artifact at `path` on `device`. Raises EdgertError where it carries no golden data."""
    if is_model(path):
        raise UsageError(f"{path} is a model: compile it first, then verify the artifact")
    with open_model(path, {}, {}, threads, device) as model:
        if "decoder" in model.manifest:
            return _decoder(model, device)
        inputs, expected = model.artifact.golden()
        if not expected:
            raise EdgertError(f"{path} carries no golden outputs to compare with")
        tolerance = float(model.manifest.get("golden", {}).get("tolerance", 0))
        results = model.run(inputs)
        checks = [compare(name, results[name], want, tolerance) for name, want in expected.items()]
        return VerifyResult(model.manifest["name"], device, tolerance, checks, all(check.passed for check in checks))


def _decoder(model: Model, device: str) -> VerifyResult:
    """A language model: how far its logits are off, and whether the likeliest tokens are the reference's but for those
    that the errors explain."""
    from edgert.llm.engine import CachedEngine
    from edgert.llm.self_check import self_check

    found = self_check(CachedEngine(model, context=min(LM_CONTEXT, int(model.manifest["decoder"]["context"]))))
    same = f"{found.tokens - found.differing} of {found.tokens} as the reference's"
    same += f", {found.wrong} further off than errors explain"
    checks = [
        OutputCheck("logits", found.error, found.error, found.error <= found.tolerance),
        OutputCheck("likeliest tokens", found.differing, found.wrong / found.tokens, not found.wrong, same),
    ]
    passed = all(check.passed for check in checks)
    return VerifyResult(model.manifest["name"], device, found.tolerance, checks, passed, "logits' spread")


def compare(name: str, got: np.ndarray, want: np.ndarray, tolerance: float) -> OutputCheck:
    """Hold `got` to `want`: same shape and type; floats within `tolerance` times the range of `want`, the rest exact.

    Where `want` has one value only, its magnitude stands in for the range. NaN and infinities must be at the same
    places.
    """
    if got.shape != want.shape or got.dtype != want.dtype:
        return OutputCheck(name, float("inf"), float("inf"), False)
    if want.dtype.kind not in "fc":
        wrong = int(np.count_nonzero(got != want))
        return OutputCheck(name, float(wrong), wrong / max(1, want.size), wrong == 0)
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return OutputCheck(name, float("inf"), float("inf"), False)
    if not finite.any():
        return OutputCheck(name, 0.0, 0.0, True)
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    expected = want[finite].astype(wide)
    error = float(np.abs(got[finite].astype(wide) - expected).max())
    extent = float(np.abs(expected - expected.flat[0]).max()) or float(np.abs(expected).max()) or 1.0
    return OutputCheck(name, error, error / extent, error <= tolerance * extent)
