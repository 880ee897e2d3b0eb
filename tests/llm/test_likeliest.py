"""The program that tells the likeliest tokens in place of logits: the same tokens, also where weights are read anew."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compiler.tune import Records, Tuner
from edgert import exe
from edgert.artifact import Artifact
from edgert.artifact import write as write_artifact
from edgert.errors import UsageError
from edgert.llm.build import compile_decoder
from edgert.llm.engine import open_engine
from edgert.llm.text_model import LIKELIEST, open_text_model
from targets import get_target
from tests.decoder.small import CASES, write
from tests.llm.made import byte_metadata

IDS = np.random.default_rng(3).integers(0, 4096, 24).tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a layer, with an output layer whose planes are large enough to be read while it runs."""
    folder, target = tmp_path_factory.mktemp("likeliest"), get_target("host")
    write(folder / "m.gguf", replace(CASES["llama"], vocab=4096, layers=1, kinds=("Q8_0",)), keys=byte_metadata())
    tiles = Tuner(target, 0, Records(target), None)
    done, more = compile_decoder(folder / "m.gguf", target, tiles=tiles, caches=(), golden=False)
    write_artifact(folder / "m.edge", done.manifest, done.code, done.weights(), more=more)
    return folder / "m.edge"


def test_tells_what_the_logits_say(model: Path) -> None:
    with open_engine(model, 2) as whole, open_engine(model, 2, cache=LIKELIEST) as told:
        assert told.tells_likeliest and not whole.tells_likeliest
        for engine in (whole, told):
            engine.chunk = 5
        assert int(told.prefill(IDS)) == whole.prefill(IDS).argmax()
        for token in IDS[:8]:
            assert int(told.decode(token)) == whole.decode(token).argmax()
        np.testing.assert_array_equal(told.verify(IDS[:8]), whole.verify(IDS[:8]).argmax(axis=1))
        with pytest.raises(UsageError, match="no logits"):
            told.score(IDS)


def test_is_taken_where_nobody_wants_logits(model: Path) -> None:
    for wanted in (True, False):
        with open_text_model(model, 1, only_likeliest=wanted) as text, text.engine() as engine:
            assert engine.tells_likeliest is wanted


@pytest.fixture(scope="module")
def program(model: Path) -> Path:
    return exe.build(model, model.with_name("program"), LIKELIEST)


def tried(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The program, for 20 tokens."""
    command = [program, "--ids", ",".join(map(str, IDS)), "--max-tokens", 20, "--ignore-end", "--json", *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def run(program: Path, *words: object) -> dict:
    """What its JSON says."""
    done = tried(program, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("more", [(), ("--guess", 7), ("--threads", 1)])
def test_a_program(model: Path, program: Path, more: tuple) -> None:
    with open_engine(model, 1) as engine:
        found = [int(engine.prefill(IDS).argmax())]
        while len(found) < 20:
            found.append(int(engine.decode(found[-1]).argmax()))
    assert run(program, *more)["ids"] == found


def test_the_same_tokens_where_panels_are_looked_up(model: Path, program: Path) -> None:
    """In the least memory there can be, where neither plane stays in it."""
    stream = Artifact.open(model)
    stream.select(LIKELIEST)
    assert stream.spec.stream is not None
    tables = [table for table in stream.spec.stream.lookups if table.ends]
    assert len(tables) == 4 and len({table.step for table in tables}) == 2
    assert not any(segment.resident for table in tables for segment in stream.spec.stream.segments
                   if table.offset <= segment.offset < table.offset + table.size)  # fmt: skip
    least = next(size for size in range(1 << 20, 1 << 24, 1 << 17) if not tried(program, "--dram", size).returncode)
    found = run(program, "--dram", least)
    assert found["ids"] == run(program)["ids"]
