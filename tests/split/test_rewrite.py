"""Bands ask for the rows that they need, and no more; what replaces a region has its shape and its readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.debug import Dump
from compiler.frontend import load
from compiler.fusion import fuse
from compiler.passes import run_passes
from compiler.passes.edit import Edit
from compiler.split.regions import Regions, late
from compiler.split.rewrite import split
from compiler.split.rules import Window
from compiler.verify import verify
from targets import get_target
from tests.split.nets import NETS

WINDOW = st.builds(
    Window, size=st.integers(5, 40), kernel=st.integers(1, 5), stride=st.integers(1, 3), dilation=st.integers(1, 2),
    before=st.integers(0, 2),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(window=WINDOW, after=st.integers(0, 2), at=st.data())
def test_a_band_of_windows_sees_what_the_whole_sees(window: Window, after: int, at: st.DataObject) -> None:
    padded = np.pad(np.arange(1, window.size + 1), (window.before, after))
    span = (window.kernel - 1) * window.dilation + 1
    count = (len(padded) - span) // window.stride + 1
    if count < 1:
        return
    low = at.draw(st.integers(0, count - 1))
    high = at.draw(st.integers(low + 1, count))
    begin, end = window.reach(low, high)
    top, bottom = max(-begin, 0), max(end - window.size, 0)
    band = np.pad(np.arange(1, window.size + 1)[max(begin, 0) : max(end, 0)], (top, bottom))
    for row in range(low, high):
        wanted = padded[row * window.stride :][: span : window.dilation]
        seen = band[(row - low) * window.stride :][: span : window.dilation]
        # all padding above the image: such bands are not split off
        assert max(begin, 0) >= min(end, window.size) or (seen == wanted).all()


def test_every_region_in_every_number_of_bands_infers(tmp_path: Path) -> None:
    """Shapes of the joined bands are those of what they replace, and the verifier finds nothing."""
    target, tried = get_target("host"), 0
    for name, net in NETS.items():
        model, facts = load(net(tmp_path / f"{name}.onnx"), {}, {})
        model, facts = run_passes(model, facts, target, Dump(None))
        groups = late(fuse(list(model.graph), facts, {str(v.name) for v in model.graph.outputs}))
        regions = Regions(Edit(model, facts), groups)
        spots = [(r.start, r.stop, r.size) for stop in range(1, len(groups) + 1) for r in regions.ending(stop)]
        for start, stop, size in spots[::3]:
            model, facts = load(tmp_path / f"{name}.onnx", {}, {})
            model, facts = run_passes(model, facts, target, Dump(None))
            edit = Edit(model, facts)
            groups = late(fuse(list(model.graph), facts, {str(v.name) for v in model.graph.outputs}))
            region = next(r for r in Regions(edit, groups).ending(stop) if r.start == start)
            before = edit.shape(region.exit), len(list(region.exit.uses()))
            split(edit, region, min(3, size))
            joined = next(n for n in reversed(list(model.graph)) if n.op_type == "Concat").outputs[0]
            assert (edit.shape(joined), len(list(joined.uses()))) == before
            verify(model, facts, "split")
            tried += 1
    assert tried > 20
