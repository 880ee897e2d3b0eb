"""MiniMalloc's benchmark cases, each of which is known to fit in 1 MiB; greedy orders end 18-41 % above."""

import csv
from pathlib import Path

import pytest

from compiler.memory import Request, validate
from compiler.memory.exact import THOROUGH, solve

CASES = Path(__file__).parents[3] / "shared" / "data" / "minimalloc"
CAPACITY = 1_048_576


def requests_of(name: str) -> list[Request]:
    """One request per row; `upper` is the first time when the buffer is gone."""
    with (CASES / f"{name}.{CAPACITY}.csv").open() as file:
        return [Request(int(r["size"]), int(r["lower"]), int(r["upper"]) - 1) for r in csv.DictReader(file)]


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/data/minimalloc")
@pytest.mark.parametrize("name", ["A", "B", "C", pytest.param("D", marks=pytest.mark.slow), "E", "F"])
@pytest.mark.parametrize("alignment", [1, 64])
def test_a_hard_case_is_placed_in_its_capacity(name: str, alignment: int) -> None:
    requests = requests_of(name)
    found = solve(requests, effort=THOROUGH, alignment=alignment)
    assert validate(requests, found.offsets, found.arena_bytes, alignment) == []
    # The fullest step of C and D is below 1 MiB: C fits in just that, D in less than 1 MiB but more than that.
    assert found.arena_bytes <= CAPACITY
    assert found.arena_bytes == found.lower_bound or name == "D"
    assert found.lower_bound == {"C": 1_039_360, "D": 986_112}.get(name, CAPACITY)
