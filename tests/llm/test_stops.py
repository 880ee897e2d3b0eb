"""Stop strings, however the stream is cut."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.errors import UsageError
from edgert.llm.stops import StopStrings

TEXT = st.text("ab\n", max_size=30)


def _plain(text: str, stops: list[str]) -> tuple[str, bool]:
    """Letter by letter: the first moment at which the text ends in a stop, the longest of those."""
    for end in range(1, len(text) + 1):
        lengths = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if lengths:
            return text[: end - max(lengths)], True
    return text, False


@given(TEXT, st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 30), max_size=8))
@settings(max_examples=300, deadline=None)
def test_any_cut_gives_the_same(text: str, stops: list[str], cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    stream = StopStrings(stops)
    pieces = [stream.push(text[a:b]) for a, b in itertools.pairwise(places)]
    assert ("".join(pieces) + stream.finish(), stream.stopped) == _plain(text, stops)


def test_held_back_only_as_long_as_it_may_be_a_stop() -> None:
    stream = StopStrings(["\nUser:"])
    assert stream.push("Hi\nUs") == "Hi"
    assert stream.push("ed ") == "\nUsed "
    assert stream.push("x\nUser") == "x"
    assert stream.push(": no") == ""
    assert stream.stopped and stream.finish() == ""


def test_empty_stop_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        StopStrings(["a", ""])
