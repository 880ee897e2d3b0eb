"""Life times over a list of steps, with views."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.memory import Aliases, Interval, Request, Step, liveness, plan
from compiler.memory.liveness import root_sizes


def test_a_buffer_lives_from_its_writer_to_its_last_reader() -> None:
    steps = [Step(["x"], ["a"]), Step(["a"], ["b"]), Step(["a", "b"], ["c"]), Step(["c"], ["y"])]
    lives = liveness(steps, external=["x", "y"])
    assert lives == {"a": Interval(0, 2), "b": Interval(1, 2), "c": Interval(2, 3)}
    assert list(lives) == ["a", "b", "c"]


def test_scratch_and_unread_results_live_for_their_step() -> None:
    assert liveness([Step([], ["a", "scratch"]), Step(["a"], ["unread"])]) == {
        "a": Interval(0, 1),
        "scratch": Interval(0, 0),
        "unread": Interval(1, 1),
    }


def test_reading_a_view_keeps_its_root() -> None:
    aliases: Aliases[str] = Aliases()
    aliases.add("reshaped", "a")
    aliases.add("half", "reshaped", 128)
    steps = [Step([], ["a"]), Step([], ["b"]), Step(["half"], ["c"])]
    assert aliases.find("half") == ("a", 128)
    assert liveness(steps, aliases)["a"] == Interval(0, 2)


def test_producers_that_write_into_one_root_start_its_life() -> None:
    # A concatenation written in place: its parts are views of it.
    aliases: Aliases[str] = Aliases()
    aliases.add("left", "whole", 0)
    aliases.add("right", "whole", 256)
    steps = [Step([], ["left"]), Step([], ["other"]), Step([], ["right"]), Step(["whole"], ["y"])]
    assert liveness(steps, aliases)["whole"] == Interval(0, 3)
    assert root_sizes({"left": 256, "right": 100}, aliases) == {"whole": 356}


def test_views_of_inputs_are_external_too() -> None:
    aliases: Aliases[str] = Aliases()
    aliases.add("flat", "x")
    assert liveness([Step(["flat"], ["y"])], aliases, external=["x", "y"]) == {}


def test_an_output_in_the_arena_is_refused() -> None:
    aliases: Aliases[str] = Aliases()
    aliases.add("y", "a")
    with pytest.raises(ValueError, match="'y' is a view of 'a'"):
        liveness([Step([], ["a"])], aliases, external=["y"])


def test_reading_what_nothing_wrote_is_refused() -> None:
    with pytest.raises(ValueError, match="step 0 reads 'a'"):
        liveness([Step(["a"], ["a"])])


def test_bad_aliases_are_refused() -> None:
    aliases: Aliases[str] = Aliases()
    aliases.add("b", "a")
    with pytest.raises(ValueError, match="already a view"):
        aliases.add("b", "c")
    with pytest.raises(ValueError, match="is a view of it"):
        aliases.add("a", "b")
    with pytest.raises(ValueError, match="cannot be a view"):
        aliases.add("c", "c")
    with pytest.raises(ValueError, match="64 bytes before"):
        aliases.add("c", "a", -64)


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[Step[int]], dict[int, int]]:
    """A random program: step i reads some earlier buffers and writes buffer i; and the size of each buffer."""
    count = draw(st.integers(1, 20))
    steps = [Step(sorted(draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else [], [i]) for i in range(count)]
    return steps, {i: draw(st.integers(1, 500)) for i in range(count)}


@settings(max_examples=100, deadline=None)
@given(program=programs())
def test_a_planned_program_never_loses_a_value(program: tuple[list[Step[int]], dict[int, int]]) -> None:
    """Run it on one arena of bytes: whatever a step reads is still what its writer left there."""
    steps, sizes = program
    lives = liveness(steps)
    made = plan([Request(sizes[i], *life) for i, life in lives.items()])
    place = dict(zip(lives, made.offsets, strict=True))
    arena = bytearray(b"\xff" * made.arena_bytes)
    for number, step in enumerate(steps):
        for i in step.reads:
            assert arena[place[i] : place[i] + sizes[i]] == bytes([i]) * sizes[i]
        arena[place[number] : place[number] + sizes[number]] = bytes([number]) * sizes[number]
