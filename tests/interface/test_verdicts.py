"""How outputs are compared, how contenders take turns, and what a budget that does not suffice is told."""

import numpy as np
import pytest

from edgert.interface.build import fit_report
from edgert.interface.race import race
from edgert.interface.verify import compare

WANT = np.float32([0, 1, 2, 10])


@pytest.mark.parametrize(
    ("got", "passed"),
    [
        (WANT, True),
        (WANT + np.float32(0.0009), True),
        (WANT + np.float32(0.0011), False),
        (WANT * np.float32("nan"), False),
        (WANT[:3], False),
        (WANT.astype(np.float64), False),
        (np.float32([0, 1, 2, np.inf]), False),
    ],
)
def test_floats_are_held_to_a_share_of_the_range(got: np.ndarray, passed: bool) -> None:
    assert compare("y", got, WANT, 1e-4).passed is passed


def test_integers_must_be_equal() -> None:
    want = np.array([1, 2, 3])
    assert compare("y", want.copy(), want, 1).passed
    check = compare("y", np.array([1, 2, 4]), want, 1)
    assert (check.passed, check.error) == (False, 1)


def test_special_values_must_be_in_place() -> None:
    want = np.float32([np.nan, np.inf, -np.inf, 1])
    assert compare("y", want.copy(), want, 0).passed
    assert not compare("y", -want, want, 1).passed
    assert not compare("y", np.float32([0, np.inf, -np.inf, 1]), want, 1).passed


def test_a_constant_is_held_to_its_magnitude() -> None:
    want = np.full(4, 100, np.float32)
    assert compare("y", want + np.float32(0.009), want, 1e-4).passed
    assert not compare("y", want + np.float32(0.011), want, 1e-4).passed
    assert compare("y", np.zeros(0, np.float32), np.zeros(0, np.float32), 0).passed


def test_contenders_take_turns() -> None:
    calls: list[str] = []
    timings = race({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, seconds=0.002, rounds=4)
    turns = [name for i, name in enumerate(calls[6:], 6) if name != calls[i - 1]]
    assert turns[:6] == ["a", "b"] * 3
    assert timings["a"].best <= timings["a"].median
    assert timings["a"].calls + timings["b"].calls < len(calls)


def test_what_does_not_fit_is_told_with_figures() -> None:
    manifest = {
        "arena_bytes": 4096,
        "plan": [
            {"name": "a", "offset": 0, "size": 1024, "first": 0, "last": 1},
            {"name": "b", "offset": 1024, "size": 3072, "first": 1, "last": 2},
        ],
        "steps": [{"name": "s0", "op": "Conv"}, {"name": "s1", "op": "Add"}, {"name": "s2", "op": "Relu"}],
    }
    text = fit_report(manifest, 2048)
    assert "needs 4096 bytes (4.0 KiB), --ram gives 2048 (2.0 KiB)" in text
    assert "step 1, s1 (Add): 4096 bytes" in text
