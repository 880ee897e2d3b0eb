"""Constraints: whatever the model would say, the text fulfils them."""

import json
import re

import numpy as np
import pytest

from edgert.errors import EdgertError, UsageError
from edgert.llm.constrain import Constraint
from edgert.llm.generate import Options, generate
from edgert.llm.sampling import SamplingOptions
from edgert.llm.speculate_recycling import TokenRecycling
from tests.llm.fake_engine import FakeEngine
from tests.llm.made import byte_tokenizer

pytest.importorskip("llguidance")
TEXT = byte_tokenizer()
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "kind": {"enum": ["the", "and"]}},
    "required": ["n", "kind"],
    "additionalProperties": False,
}


def _text(constraint: Constraint, seed: int, **options: object) -> tuple[str, str | None]:
    run = generate(FakeEngine(TEXT.vocab, seed), [5], TEXT, Options(max_tokens=300, **options), constraint)
    events = list(run)
    return "".join(event.text for event in events), events[-1].finish


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_text_fulfils_the_expression(seed: int, temperature: float) -> None:
    expression = r"(in|the) [0-9]{2,4}(ü|🎉)?"
    sampling = SamplingOptions(temperature=temperature, seed=seed)
    text, finish = _text(Constraint(TEXT, regex=expression), seed, sampling=sampling)
    assert re.fullmatch(expression, text) and finish in ("end", "constraint")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("schema", [SCHEMA, json.dumps(SCHEMA)])
def test_text_fulfils_the_schema(schema: dict | str, seed: int) -> None:
    # Greedy, of a model of noise: spaces between the parts would go on for ever if they were not bounded
    text, finish = _text(Constraint(TEXT, json_schema=schema), seed)
    value = json.loads(text)
    assert value.keys() == {"n", "kind"} and 0 <= value["n"] <= 99 and value["kind"] in ("the", "and")
    assert finish in ("end", "constraint")


def test_guesses_change_nothing_under_a_constraint() -> None:
    texts = []
    for drafter in (None, TokenRecycling(TEXT.vocab)):
        run = generate(
            FakeEngine(TEXT.vocab, 3), [5], TEXT, Options(max_tokens=60), Constraint(TEXT, regex="[a-z ]+"), drafter
        )
        texts.append(list(run) and run.tokens)
    assert texts[0] == texts[1]


def test_mask_leaves_the_rest_as_it_was() -> None:
    constraint = Constraint(TEXT, regex="ab?")
    logits = np.arange(TEXT.vocab, dtype=np.float32)
    allowed = np.flatnonzero(constraint.mask(logits) > -np.inf)
    assert allowed.tolist() == TEXT.encode("a") and logits.tolist() == list(range(TEXT.vocab))
    wider = constraint.mask(np.zeros(TEXT.vocab + 9, np.float32))  # logits padded beyond the vocabulary
    assert len(wider) == TEXT.vocab + 9 and np.isneginf(wider[TEXT.vocab :]).all()
    constraint.advance(TEXT.encode("a")[0])
    assert constraint.complete and not constraint.finished
    after = np.flatnonzero(constraint.mask(logits) > -np.inf).tolist()
    assert sorted(after) == sorted([*TEXT.end_ids, *TEXT.encode("b")])
    with pytest.raises(EdgertError, match="does not follow"):
        constraint.advance(TEXT.encode("z")[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"regex": "(a"},
        {"json_schema": "{"},
        {"json_schema": {"type": "nonsense"}},
        {},
        {"regex": "a", "json_schema": {}},
    ],
)
def test_wrong_constraints_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        Constraint(TEXT, **wrong)
