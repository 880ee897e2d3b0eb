"""Sources on the command line to arrays: recordings with context and state, text, facts."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgert.errors import UsageError
from edgert.interface.facts import find_facts
from edgert.interface.inputs import describe, gather
from edgert.interface.pairs import parse_dim, parse_input, parse_shape
from tests.interface.test_media import wav


def entry(name: str, shape: list[Any], dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape}


VAD = {"inputs": [entry("input", [1, 6]), entry("state", [2, 1, 3])]}
VAD_FACTS = {
    "preprocess": {"sample_rate": 16000, "frame": 4, "context": 2},
    "state": {"input": "state", "output": "stateN", "initial": 0.5},
}


def test_a_recording_becomes_frames_with_context(tmp_path: Path) -> None:
    samples = np.arange(1, 11, dtype=np.int16)
    (tmp_path / "a.wav").write_bytes(wav(samples.tobytes(), 2))
    frames = gather([("input", str(tmp_path / "a.wav"))], VAD, VAD_FACTS)
    got = [frame["input"][0] * 2**15 for frame in frames]
    np.testing.assert_array_equal(got, [[0, 0, 1, 2, 3, 4], [3, 4, 5, 6, 7, 8], [7, 8, 9, 10, 0, 0]])
    assert all((frame["state"] == 0.5).all() and frame["state"].shape == (2, 1, 3) for frame in frames)


def test_a_recording_without_facts_is_cut_or_padded(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(struct.pack("<2h", 2**14, 2**13), 2))
    (only,) = gather([("x", str(tmp_path / "a.wav"))], {"inputs": [entry("x", [1, 4])]}, {})
    np.testing.assert_array_equal(only["x"], [[0.5, 0.25, 0, 0]])


def test_a_wrong_sample_rate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(b"\0\0", 2, rate=8000))
    with pytest.raises(UsageError, match="8000 Hz, the model wants 16000"):
        gather([("input", str(tmp_path / "a.wav"))], VAD, VAD_FACTS)


def test_a_text_fills_all_inputs_of_its_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("[UNK]\n[CLS]\n[SEP]\nhello\nworld\n##s\n")
    (tmp_path / "text.txt").write_text("Hello, worlds")
    shape = [1, {"slot": 0, "max": 16}]
    names = ("input_ids", "attention_mask", "token_type_ids")
    manifest = {"inputs": [entry(name, shape, "int64") for name in names]}
    facts = {"preprocess": {"vocabulary": "v.txt"}, "folder": str(tmp_path)}
    (only,) = gather([("input_ids", str(tmp_path / "text.txt"))], manifest, facts)
    assert only["input_ids"].tolist() == [[1, 3, 0, 4, 5, 2]]
    assert only["attention_mask"].tolist() == [[1] * 6]
    assert only["token_type_ids"].tolist() == [[0] * 6]


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("x")
    facts = {"preprocess": {"vocabulary": "v.txt"}, "folder": str(tmp_path)}
    with pytest.raises(UsageError, match=r"vocabulary .*v.txt is missing"):
        gather([("x", str(tmp_path / "text.txt"))], {"inputs": [entry("x", [1, 4], "int64")]}, facts)


def test_facts_come_from_the_manifest_or_from_beside(tmp_path: Path) -> None:
    assert find_facts(tmp_path / "m.edge", {}) == {}
    assert find_facts(tmp_path / "m.edge", {"facts": {"labels": ["a"]}}) == {"labels": ["a"]}
    (tmp_path / "m.json").write_text(json.dumps({"labels": ["b"]}))
    assert find_facts(tmp_path / "m.edge", {}) == {"labels": ["b"], "folder": str(tmp_path)}
    (tmp_path / "m.json").write_text("[1]")
    assert find_facts(tmp_path / "m.edge", {}) == {}
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(UsageError, match=r"m.json is not JSON"):
        find_facts(tmp_path / "m.edge", {})


def test_notations() -> None:
    assert parse_shape("x=1x3x224x224") == ("x", (1, 3, 224, 224))
    assert parse_shape("a=b:0=scalar") == ("a=b:0", ())
    assert parse_dim("seq=1..512") == ("seq", (1, 512))
    assert parse_dim("n=4") == ("n", (4, 4))
    assert parse_input("x=a=b.png") == ("x", "a=b.png")
    assert describe(entry("x", [1, {"slot": 0, "max": 9}], "int64")) == "int64[1,..9]"


@pytest.mark.parametrize("text", ["x", "=1", "x=", "x=1x", "x=-1", "x=1..2"])
def test_wrong_shapes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=DIMS"):
        parse_shape(text)


@pytest.mark.parametrize("text", ["x", "x=0..4", "x=5..4", "x=1..", "x=a"])
def test_wrong_dims_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"MIN..MAX|bounds"):
        parse_dim(text)
