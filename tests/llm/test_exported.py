"""Decoders exported to ONNX with past key values: compiled with the cache in place, beside ONNX Runtime on the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import edgert
from compiler.codegen.cache import cache_dir
from compiler.decoder.exported import attentions, head_count, recognise, to_graph
from compiler.decoder.exported_masks import windows
from compiler.decoder.golden_exported import Session
from compiler.frontend import load
from edgert.cli import main
from edgert.errors import EdgertError, UnsupportedModel, UsageError
from edgert.interface.verify import verify
from edgert.llm.engine import open_engine
from edgert.llm.generate import Generation, Options
from edgert.llm.text_model import open_text_model
from edgert.llm.tokenizer_files import tokenizer_beside
from tests.llm.exported import HEADS, VOCAB, export
from tests.llm.made import byte_tokenizer

IDS = np.random.default_rng(3).integers(0, VOCAB, 40).tolist()
# Keys and values in float16: 2**-11 of each, some hundredths of a percent of the logits' spread after two layers
HALF = 2e-3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def artifact(model: Path) -> Path:
    edgert.compile(model.parent, model.with_suffix(".edge"))
    return model.with_suffix(".edge")


def test_logits(model: Path, artifact: Path) -> None:
    exported = recognise(model)
    assert exported is not None
    want = Session(exported).feed(IDS)
    with open_engine(artifact, threads=1) as engine:
        first = engine.score(IDS[:17])  # with nothing before them
        rest = [engine.decode(token).copy() for token in IDS[17:30]]
        last = engine.score(IDS[30:])
        found = np.concatenate([first, rest, last])
        assert np.abs(found - want).max() < HALF * want.std()
        engine.reset()
        np.testing.assert_allclose(engine.prefill(IDS), want[-1], rtol=0, atol=HALF * want.std())


def test_it_generates(artifact: Path) -> None:
    assert verify(str(artifact)).passed
    with open_text_model(artifact, threads=1) as opened, opened.engine() as engine:
        ids = opened.tokenizer.encode("the end")
        events = Generation(engine, ids, opened.tokenizer, Options(max_tokens=12))
        text = "".join(event.text for event in events)
    words = ["generate", str(artifact), "--prompt", "the end", "--max-tokens", "12", "--threads", "1"]
    assert CliRunner().invoke(main, [*words, "--speculate", "both"]).stdout == text + "\n"
    assert CliRunner().invoke(main, [*words, "--kv", "fp16"]).exit_code == 0


def test_the_model_file_itself(model: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGERT_CACHE", str(cache_dir()))  # of kernels, which are not what this looks at
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where it is kept
    words = ["--prompt", "the end", "--max-tokens", "5", "--threads", "1"]
    done = [CliRunner().invoke(main, ["generate", str(path), *words]) for path in (model, artifact)]
    assert done[0].stdout == done[1].stdout and done[0].exit_code == 0, done[0].stderr
    found = CliRunner().invoke(main, ["inspect", str(model)])
    assert found.exit_code == 0 and "2 edgert.CachedAttention" in found.stdout
    fails = CliRunner().invoke(main, ["generate", str(artifact), *words, "--kv-window", "8"])
    assert fails.exit_code == 2 and "no token can be forgotten" in fails.stderr


def test_the_tokenizer_is_that_of_the_files(model: Path, artifact: Path) -> None:
    with open_text_model(artifact, threads=1) as opened:
        tokenizer, same = opened.tokenizer, byte_tokenizer()
        text = "The end, <|im_end|> 12 of it\n"
        assert tokenizer.encode(text, special=True) == same.encode(text, special=True)
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert (tokenizer.bos, tokenizer.eos, tokenizer.end_ids) == (1, 2, {0, 2})
        rendered = opened.chat_template().render([{"role": "user", "content": "Hi"}])
        assert str(rendered).startswith("<|im_start|>user")
        assert opened.most == 64  # of config.json


@pytest.mark.parametrize("scheme", ["int8-dynamic", pytest.param("int4x8", marks=pytest.mark.slow)])
def test_quantized(model: Path, scheme: str, tmp_path: Path) -> None:
    report = edgert.compile(model, tmp_path / "small.edge", quant=scheme, context=32)
    assert report.manifest["name"] == model.parent.name and report.manifest["decoder"]["context"] == 32
    assert report.manifest["weights_bytes"] < 150_000  # of 375,000 in float32
    assert verify(str(tmp_path / "small.edge")).passed


def test_windows_are_seen(tmp_path: Path) -> None:
    def near(graph: onnx.GraphProto) -> None:
        """Tokens see 5: what is not above the row's position - 5 is low too."""
        later = next(node for node in graph.node if node.op_type == "Greater")
        column, row = later.input
        graph.initializer.append(numpy_helper.from_array(np.array(5), "window"))
        at = list(graph.node).index(later) + 1
        old = later.output[0]
        later.output[0] = "later"
        graph.node.insert(at, helper.make_node("Or", ["later", "gone"], [old], "either"))
        graph.node.insert(at, helper.make_node("LessOrEqual", [column, "first"], ["gone"], "gone"))
        graph.node.insert(at, helper.make_node("Sub", [row, "window"], ["first"], "first"))

    path = changed(tmp_path, near)
    exported = recognise(path)
    assert exported is not None
    found = attentions(exported)
    assert windows(exported, [str(a.mask.name) for a in found], 64) == [5, 5]
    assert head_count(exported, str(found[0].query.name)) == HEADS


def changed(folder: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    path = export(folder)
    proto = onnx.load(path)
    change(proto.graph)
    onnx.save(proto, path)
    return path


def test_names_that_the_compiled_graph_has_too(tmp_path: Path) -> None:
    def named(graph: onnx.GraphProto) -> None:
        mask = next(node for node in graph.node if node.op_type == "Greater").output[0]
        head = graph.node[-1].input[1]
        for node in graph.node:
            for values in (node.input, node.output):
                values[:] = [{mask: "seen", head: "rows"}.get(name, name) for name in values]
        next(i for i in graph.initializer if i.name == head).name = "rows"

    exported = recognise(changed(tmp_path, named))
    assert exported is not None
    model, facts = load(
        to_graph(exported, [None, None], HEADS), dims={"seq": (1, 4), "want": (1, 4), "context": (1, 64)}
    )
    assert not facts.problems and facts.values["logits"].shape[1] == VOCAB
    assert sum(node.op_type == "CachedAttention" for node in model.graph) == 2


def _no_positions(graph: onnx.GraphProto) -> None:
    ids = next(v for v in graph.input if v.name == "position_ids")
    graph.input.remove(ids)
    graph.initializer.append(numpy_helper.from_array(np.arange(4)[None], "position_ids"))


def _slopes(graph: onnx.GraphProto) -> None:
    """What is earlier counts less."""
    node = next(node for node in graph.node if node.op_type == "Where")
    graph.initializer.append(numpy_helper.from_array(np.array(-1.0, np.float32), "less"))
    node.input[2] = "less"


def _capped(graph: onnx.GraphProto) -> None:
    at, softmax = next((i, node) for i, node in enumerate(graph.node) if node.op_type == "Softmax")
    scores = softmax.input[0]
    softmax.input[0] = "capped"
    graph.node.insert(at, helper.make_node("Tanh", [scores], ["capped"], "cap"))


def _half(graph: onnx.GraphProto) -> None:
    for value in graph.input:
        if value.name.startswith("past"):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16


def _used_elsewhere(graph: onnx.GraphProto) -> None:
    last = graph.node[-1]
    graph.node.insert(0, helper.make_node("Shape", ["past_key_values.0.key"], ["shape"], "shape"))
    graph.node.insert(1, helper.make_node("Cast", ["shape"], ["floats"], "floats", to=TensorProto.FLOAT))
    graph.node.insert(2, helper.make_node("ReduceMax", ["floats"], ["most"], "most", keepdims=0))
    graph.node.insert(len(graph.node) - 1, helper.make_node("Add", [last.input[0], "most"], ["more"], "more"))
    last.input[0] = "more"


@pytest.mark.parametrize(
    "change, message",
    [
        (_no_positions, "no input position_ids"),
        (_slopes, "its attention mask adds to scores"),
        (_capped, "attention of layer 0 is not understood: Tanh cap reads the scores"),
        (_half, "keys and values that are not float32"),
        (_used_elsewhere, "uses past_key_values.0.key for more than attention"),
    ],
)
def test_what_is_not_understood(change: Callable[[onnx.GraphProto], None], message: str, tmp_path: Path) -> None:
    path = changed(tmp_path, change)
    with pytest.raises(UnsupportedModel, match=message) as raised:
        edgert.compile(path, tmp_path / "out.edge")
    assert "\n" not in str(raised.value) and not (tmp_path / "out.edge").exists()


def test_no_tokenizer_no_language_model(tmp_path: Path) -> None:
    export(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"--context is for language models: .* a tokenizer\.json beside it"):
        edgert.compile(tmp_path / "model.onnx", tmp_path / "out.edge", context=32)
    with pytest.raises(UsageError, match="dimensions left open"):  # as any other model
        edgert.compile(tmp_path / "model.onnx", tmp_path / "out.edge")
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(UsageError, match=r"is a folder without model\.onnx"):
        edgert.compile(tmp_path, tmp_path / "out.edge")


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"model": {"type": "Unigram"}}', "a tokenizer of the kind 'Unigram'; BPE is known"),
        ('{"model": {"type": "BPE", "vocab": {"a": 300}, "merges": []}}', "has a token 300, and the model has 270"),
        ('{"model": {"type": "BPE", "vocab": {"a": "x"}, "merges": []}}', "is damaged"),
        ('{"model": {"type": "BPE", "vocab": {"a": 1}}, "added_tokens": [{}]}', "is damaged"),
    ],
)
def test_damaged_tokenizers(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(EdgertError, match=message):
        tokenizer_beside(tmp_path, VOCAB)


def test_facts_of_the_files(tmp_path: Path) -> None:
    export(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": [{"name": "default", "template": "T"}]})
    )
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 2, 9999]}))
    config = tokenizer_beside(tmp_path, VOCAB)[1]
    assert config["end_ids"] == [0, 2, 7] and config["chat_template"] == "T" and config["add_bos"] is False
