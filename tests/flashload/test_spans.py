"""What kernels say of how they read their weights, checked against their text; the layout and the plan made of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tvm import tirx

from edgert.artifact import Artifact
from flashload.layout import LEAST, PAGE, Weight, cut, lay_out
from flashload.plan import plan, play
from flashload.profile import ASSUMED
from flashload.visits import Stream, chosen
from targets.errors import DoesNotFit
from targets.kernels.builder import Builder
from targets.kernels.reach import holds
from targets.kernels.reading import Span
from targets.kernels.stage import Const, Stage
from targets.kernels.tensor import Tensor
from targets.kernels.tiles_emit import prefetch
from tests.flashload.networks import decoder, mlp


def _kernel(rows: tirx.Var) -> tuple[Stage, Const]:
    """Six panels of four numbers, each met `rows` times; the last one is short. It asks for the next one ahead."""
    b, out = Builder("k"), Tensor((24,), "float32", "out")
    weights = Const((23,), "float32", lambda: np.zeros(23, np.float32), "w")
    w, y = b.arg(weights), b.arg(out)
    with b.parallel(rows * 6) as p:
        panel = b.let(tirx.truncdiv(p, rows))
        prefetch(b, w, panel * 4 + 4)
        with b.when(panel < 5), b.serial(4, "i") as i:
            b.store(y, panel * 4 + i, w[panel * 4 + i])
        with b.when(tirx.EQ(panel, tirx.const(5, "int64"))), b.serial(3, "i") as i:
            b.store(y, panel * 4 + i, w[20 + i])
    b.reading.span(weights, 6, 16)
    return b.stage(), weights


@pytest.mark.parametrize("rows", [1, 5])
def test_true_spans_hold_and_false_ones_do_not(rows: int) -> None:
    stage, weights = _kernel(tirx.Var("rows", "int64"))
    (span,) = stage.reading.spans
    assert all(holds(stage, span, unit, 6 * rows, {"rows": rows}) for unit in range(6))
    for false in (replace(span, bytes=12), replace(span, first=1), replace(span, units=5)):
        assert not all(holds(stage, false, unit, 6 * rows, {"rows": rows}) for unit in range(6))
    stage.reading.units = 3  # twice as much at once
    assert not holds(stage, span, 0, 6 * rows, {"rows": rows})
    assert all(holds(stage, Span(weights, 0, 3, 32), unit, 6 * rows, {"rows": rows}) for unit in range(2))


def _stream(path: object) -> Stream:
    found = Artifact.open(path).spec.stream  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("make", [mlp, decoder])
def test_visits_cover_every_weight_once_in_a_run(make: object) -> None:
    stream = _stream(make())  # type: ignore[operator]
    met = [segment for visit in stream.visits for segment, _ in visit.pieces]
    assert sorted(met) == [i for i, s in enumerate(stream.segments) if not s.resident]
    assert all(s.offset % PAGE == 0 for s in stream.segments)
    assert max(len([v for v in stream.visits if v.step == visit.step]) for visit in stream.visits) > 1  # parts of steps


def test_pieces_are_whole_pages_and_units() -> None:
    for size in (64, 5760, 23040, 39168, 49152, 61440, 1 << 20):
        assert cut([size]) * size % PAGE == 0
    assert cut([64, 5760]) % 64 == 0  # side by side: whole pages of each
    assert cut([70_001]) == 0  # would take 4,096 of them
    weights = [
        Weight(LEAST - 1),
        Weight(1 << 20, 256 << 10),
        Weight(100),
        Weight(LEAST * 2, stays=True),
        Weight(70_001),
    ]
    made = lay_out(weights)
    spans = sorted((at, at + w.size) for at, w in zip(made.offsets, weights, strict=True))
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert [s.offset for s in made.segments[1:]] == [s.offset + s.size for s in made.segments[:-1]]
    assert [p is None for p in made.parts] == [True, False, True, True, False]
    assert made.segments[-1].offset + made.segments[-1].size == made.total


def test_plans_fit_their_budget_and_get_no_slower_with_more() -> None:
    stream, fixed = _stream(mlp()), {"process": 40 << 20}
    times = []
    for budget in range(44 << 20, 54 << 20, 1 << 20):
        made = plan(budget, fixed, stream, ASSUMED, 1e-3)
        assert sum(made.parts.values()) <= budget
        times.append(made.run_seconds)
        stays = chosen(stream, made.pinned_bytes)
        pinned = sum(s.size for s, stay in zip(stream.segments, stays, strict=True) if stay and not s.resident)
        assert pinned <= made.pinned_bytes
    assert times == sorted(times, reverse=True)
    assert times[-1] == 1e-3
    with pytest.raises(DoesNotFit, match=r"needs at least \d+ bytes \(process 41943040"):
        plan(41 << 20, fixed, stream, ASSUMED, None)


def test_the_queue_overlaps_reading_and_computing() -> None:
    jobs, ring = [[1000]] * 10, 4000
    assert play(jobs, [1.0] * 10, ring, 1e6) == pytest.approx(10, rel=0.01)  # computing decides
    assert play(jobs, [0.0] * 10, ring, 1000) == pytest.approx(10, rel=0.01)  # reading decides
    assert play(jobs, [1.0] * 10, ring, 1000) == pytest.approx(10, rel=0.15)  # both at once
    assert play(jobs, [1.0] * 10, 1000, 1000) == pytest.approx(20, rel=0.01)  # no room to do both
