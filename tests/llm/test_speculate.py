"""Where guesses come from: their shape and what they learn."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.llm.engine_api import NO_PARENT
from edgert.llm.speculate import BestOf, Draft, check
from edgert.llm.speculate_lookup import PromptLookup
from edgert.llm.speculate_pace import STEP, Confidence, Pace
from edgert.llm.speculate_recycling import TokenRecycling, tree_template
from tests.llm.fake_engine import FakeEngine


@given(st.integers(1, 60), st.lists(st.floats(0.01, 1), min_size=1, max_size=8), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_template_is_a_tree_in_breadth_first_order(nodes: int, hits: list[float], depth: int) -> None:
    template = tree_template(nodes, sorted(hits, reverse=True), depth)
    levels: list[int] = []
    for i, (parent, rank) in enumerate(template):
        assert NO_PARENT <= parent < i and 0 <= rank < len(hits)
        levels.append(0 if parent == NO_PARENT else levels[parent] + 1)
    assert levels == sorted(levels) and len(set(template)) == len(template)
    assert len(template) == min(nodes, sum(len(hits) ** d for d in range(1, depth + 1)))
    assert max(levels) < depth


def test_lookup_continues_the_longest_and_latest_match() -> None:
    drafter = PromptLookup(longest=3, most=3)
    assert drafter.draft([1, 2, 3, 4, 5, 9, 3, 8, 1, 2, 3], 8).tokens == [4, 5, 9]
    assert drafter.draft([1, 2, 3, 4, 5, 9, 3, 8, 1, 2, 3, 7, 3], 2).tokens == [7, 3]
    assert drafter.draft([6, 6, 1], 8) == Draft()  # another text, whose end is new
    again = drafter.draft([6, 6], 8)
    assert (again.tokens, again.parents) == ([6], [NO_PARENT])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_lookup_growing_is_lookup_at_once(context: list[int]) -> None:
    growing = PromptLookup()
    drafts = [growing.draft(context[:end], 8) for end in range(1, len(context) + 1)]
    assert drafts[-1].tokens == PromptLookup().draft(context, 8).tokens
    chain = drafts[-1].tokens
    if chain:  # it stands in the text, after the text's last token
        wanted = [context[-1], *chain]
        assert any(context[i : i + len(wanted)] == wanted for i in range(len(context)))


def test_recycling_drafts_what_it_saw() -> None:
    drafter = TokenRecycling(vocab=50, nodes=6, hits=(0.6, 0.3))
    assert drafter.draft([7], 10) == Draft()
    logits = np.zeros((2, 50), np.float32)
    logits[0, [9, 8]] = 2, 1  # after 7: first 9, then 8
    logits[1, [7, 3]] = 2, 1  # after 9: first 7, then 3
    drafter.observe([7, 9], logits)
    draft = drafter.draft([1, 7], 10)
    named = [
        (NO_PARENT if p == NO_PARENT else draft.tokens[p], t) for t, p in zip(draft.tokens, draft.parents, strict=True)
    ]
    assert named[:2] == [(NO_PARENT, 9), (NO_PARENT, 8)]
    assert (9, 7) in named and (7, 9) in named and not any(parent == 8 for parent, _ in named)
    assert len(drafter.draft([1, 7], 3).tokens) == 3


def test_check_follows_the_tree_to_the_first_wrong_guess() -> None:
    engine = FakeEngine(40, seed=2)
    engine.prefill([1, 2])
    plain = FakeEngine(40, seed=2)
    right = [int(plain.prefill([1, 2]).argmax())]
    for _ in range(4):
        right.append(int(plain.decode(right[-1]).argmax()))
    wrong = (right[3] + 1) % 40
    tokens = [(right[1] + 1) % 40, right[1], right[2], wrong, right[2]]
    parents = [NO_PARENT, NO_PARENT, 1, 2, 0]
    chosen, accepted, logits = check(engine, right[0], Draft(tokens, parents), lambda row: int(row.argmax()))
    assert chosen == right[1:4] and accepted == 2
    assert engine.committed == [1, 2, *right[:3]] and logits.shape == (6, 40)


@given(st.lists(st.floats(0, 1), max_size=7), st.lists(st.floats(0.1, 2), min_size=8, max_size=8))
@settings(max_examples=60, deadline=None)
def test_the_pace_is_the_best_of_all_lengths(shares: list[float], costs: list[float]) -> None:
    pace = Pace()
    for tokens, seconds in enumerate(costs, 1):
        pace.timed(tokens, seconds + 1)  # slower once
        pace.timed(tokens, seconds)
    rates = [(1 + sum(np.cumprod(shares[:n]))) / costs[n] for n in range(len(shares) + 1)]
    assert rates[pace.length(shares)] >= max(rates) * (1 - 1e-9)


def test_costs_that_were_not_measured_follow_from_the_nearest() -> None:
    pace = Pace()
    assert pace.cost(5) == 1 + 4 * STEP
    pace.timed(1, 2.0)
    pace.timed(6, 3.0)
    assert pace.cost(2) == 2 * (1 + STEP) and pace.cost(7) == 3 * (1 + 6 * STEP) / (1 + 5 * STEP)


def test_confidence_learns_from_the_text() -> None:
    confidence = Confidence((0.5, 0.5), weight=2)
    text = [1]
    for _ in range(50):  # the first guess always holds, the second never
        shares = confidence.propose(text, [7, 8, 9], [0, 1, 1])
        text += [7, 5]
        confidence.settle(text)
    assert shares[0] > 0.9 and shares[1] == shares[2] < 0.1


class _Fixed:
    def __init__(self, draft: Draft) -> None:
        self.given = draft

    def draft(self, context: list[int], most: int) -> Draft:
        return self.given

    def observe(self, ids: list[int], logits: np.ndarray) -> None:
        pass


def test_the_better_guesses_are_taken() -> None:
    weak, strong = Draft([1, 2], [-1, 0], [0.3, 0.3]), Draft([3], [-1], [0.9])
    assert BestOf(_Fixed(weak), _Fixed(strong), _Fixed(Draft())).draft([0], 8) is strong
    assert BestOf(_Fixed(Draft()), _Fixed(weak)).draft([0], 8) is weak
    assert strong.head(0) == Draft() and weak.head(1) == Draft([1], [-1], [0.3])
