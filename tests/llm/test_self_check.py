"""`edgert verify` on language models: right ones pass, broken ones do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert.errors import EdgertError, UsageError
from edgert.interface.bench import bench
from edgert.interface.run import run
from edgert.interface.verify import verify
from edgert.llm.engine import open_engine
from edgert.llm.self_check import MEMBER, self_check
from tests.llm.small_models import artifact, gguf


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With golden answers; every kernel is that of the artifact without."""
    artifact()
    path = tmp_path_factory.mktemp("checked") / "llama.edge"
    edgert.compile(gguf(), path)
    return path


def test_a_right_model_passes(checked: Path) -> None:
    result = verify(str(checked), threads=1)
    logits, tokens = result.outputs
    assert result.passed and 0 < logits.relative <= result.tolerance
    assert 1e-3 <= result.tolerance < 0.2  # two times what 8-bit activations cost: 1 to 3 % of small models' logits
    assert tokens.name == "likeliest tokens" and tokens.passed


def test_a_broken_cache_fails(checked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_engine(checked, threads=1, context=32) as engine:
        score = engine.score

        def forgetful(ids: list[int]) -> np.ndarray:
            rows = score(ids)
            for state in engine._state.values():
                state[..., 0, :] = 0  # the first token's keys and values
            return rows

        monkeypatch.setattr(engine, "score", forgetful)
        found = self_check(engine)
    assert found.error > found.tolerance


def test_wrong_answers_fail(checked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_engine(checked, threads=1, context=32) as engine:
        member = engine.model.artifact.member
        wanted = json.loads(bytes(member(MEMBER)))
        wanted["columns"] = [[row[-1], *row[1:-1], row[0]] for row in wanted["columns"]]
        monkeypatch.setattr(engine.model.artifact, "member", lambda name: json.dumps(wanted).encode())
        found = self_check(engine)
        assert found.wrong and found.error > found.tolerance
        monkeypatch.setattr(engine.model.artifact, "member", lambda name: b"{}")
        with pytest.raises(EdgertError, match=r"golden/decoder\.json is damaged"):
            self_check(engine)


def test_without_answers() -> None:
    with pytest.raises(EdgertError, match="carries no golden answers: compile it again without --no-golden"):
        verify(str(artifact()))


def test_commands_that_are_not_for_language_models() -> None:
    with pytest.raises(UsageError, match="is a language model: `edgert generate"):
        bench(str(artifact()))
    with pytest.raises(UsageError, match="is a language model: `edgert generate"):
        run(str(artifact()), [], profile=True)
