"""Feed-forward layers by neuron: products of ReLU's results that read only rows of neurons that are not zero, to the
bit; and language models that leave out what adds least."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import edgert
from edgert import budget, runner
from edgert.artifact import write as write_artifact
from edgert.cli import main
from edgert.errors import EdgertError
from edgert.llm.build import compile_decoder
from edgert.llm.engine import CachedEngine
from edgert.sparse import Sparsity
from flashload.bundles import pack, row_bytes
from flashload.plan import Plan
from flashload.sparsity import limits_of
from targets import get_target
from tests.decoder.small import CASES, write
from tests.flashload import faulty
from tests.flashload.networks import _folder
from tests.llm.made import byte_metadata
from tests.llm.small_models import VOCAB

WIDTH, NEURONS, LAYERS = 192, 900, 2


def relu_onnx() -> Path:
    """x [batch, 192] through two layers of 900 ReLU neurons, of which some 4 % are not zero."""
    rng = np.random.default_rng(0)
    nodes, constants, at = [], [], "x"
    for i in range(LAYERS):
        shift = np.full(NEURONS, -1.75, np.float32)
        for name, values in (
            (f"up{i}", rng.normal(0, WIDTH**-0.5, (WIDTH, NEURONS)).astype(np.float32)), (f"shift{i}", shift),
            (f"down{i}", rng.normal(0, 0.4, (WIDTH, NEURONS)[:: -1 if i else 1]).astype(np.float32)),
        ):  # fmt: skip
            constants.append(numpy_helper.from_array(values, name))
        down = helper.make_node("MatMul", [f"h{i}", f"down{i}"], [f"y{i}"])
        if not i:
            down = helper.make_node("Gemm", [f"h{i}", f"down{i}"], [f"y{i}"], transB=1)
        nodes += [
            helper.make_node("MatMul", [at, f"up{i}"], [f"u{i}"]),
            helper.make_node("Add", [f"u{i}", f"shift{i}"], [f"s{i}"]),
            helper.make_node("Relu", [f"s{i}"], [f"h{i}"]), down,
        ]  # fmt: skip
        at = f"y{i}"
    graph = helper.make_graph(
        nodes, "relu", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info(at, TensorProto.FLOAT, ["batch", WIDTH])], constants,
    )  # fmt: skip
    path = Path(_folder().name) / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@cache
def relu() -> Path:
    path = relu_onnx()
    out = path.with_suffix(".edge")
    edgert.compile(path, out, dims={"batch": (1, 40)}, golden=False, sparsity=Sparsity(0))
    return out


def _opened(kept: float, gap: int = 0, source: faulty.Open | None = None) -> edgert.runner.Model:
    """With room for a share of the rows, and everything else in memory."""
    model = runner.load(relu(), 2, dram="64G", source=source)
    memory, stream = model.memory, model.artifact.spec.stream
    assert memory is not None and stream is not None
    size = stream.streamed_bytes + int(kept * LAYERS * NEURONS * (4 * WIDTH + 4))
    made = Plan(0, {"process": 0}, size, stream.least_ring, 256 << 10, 2, 1, 1, 1, 1, "", gap)
    memory._made = lambda: made  # type: ignore[method-assign]
    return model


@pytest.fixture
def rows() -> Iterator[np.ndarray]:
    yield np.random.default_rng(3).normal(size=(30, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("kept", [0.0, 0.2, 1.0])
def test_the_answer_is_the_resident_one_and_that_of_all_rows(rows: np.ndarray, kept: float) -> None:
    session = onnxruntime.InferenceSession(str(relu_onnx()))
    with edgert.load(relu(), threads=2) as resident, _opened(kept) as model:
        for count in (1, 30, 2, 1):
            y = model.run({"x": rows[:count]})["y1"]
            np.testing.assert_array_equal(y, resident.run({"x": rows[:count]})["y1"])
            # sums of some 40 products in another order
            np.testing.assert_allclose(y, session.run(None, {"x": rows[:count]})[0], rtol=1e-4, atol=1e-4)


def test_only_what_is_not_zero_is_read(rows: np.ndarray) -> None:
    reads = {}
    for kept, gap in ((0.0, 0), (0.0, 1 << 16), (0.5, 0)):
        with _opened(kept, gap) as model:
            for row in rows:  # the first reads learn what is right
                model.run({"x": row[None]})
            assert model.memory is not None
            before = model.memory.figures()
            for row in rows:
                model.run({"x": row[None]})
            after = model.memory.figures()
            reads[kept, gap] = {key: after[key] - before[key] for key in after}
    least, wide, window = reads.values()
    assert 0.01 < least["chosen_rows"] / (len(rows) * LAYERS * NEURONS) < 0.2
    assert least["chosen_rows"] == least["chosen_missing"] == wide["chosen_rows"] > 1.8 * window["chosen_missing"]
    # rows of 768 bytes lie in two or three sectors of 512
    assert least["chosen_bytes"] <= 1536 * least["chosen_missing"]
    assert wide["chosen_reads"] < least["chosen_reads"] / 3
    assert wide["chosen_bytes"] > 2 * least["chosen_bytes"]
    assert window["chosen_bytes"] < 0.6 * least["chosen_bytes"]


def test_a_device_that_says_nothing_ends_the_run(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "TIMEOUT_MS", 200)
    with edgert.load(relu(), threads=1) as model:
        stream = model.artifact.spec.stream
        assert stream is not None
        place = model.artifact.weights_offset + stream.lookups[0].offset
        right = model.run({"x": rows})["y1"]
    with _opened(0.0, source=faulty.Faulty(faulty.STALL_AT, place, 1)) as model:
        with pytest.raises(EdgertError, match=r"weights at byte \d+ of the file did not come within 0\.2 s"):
            model.run({"x": rows})
        time.sleep(2)  # as long as the device takes
        np.testing.assert_array_equal(model.run({"x": rows})["y1"], right)


def test_a_row_that_changes_on_the_disk_ends_the_run(rows: np.ndarray, tmp_path: Path) -> None:
    copy = tmp_path / "copy.edge"
    copy.write_bytes(relu().read_bytes())
    with edgert.load(copy, threads=1, dram="64G") as model:
        memory, stream = model.memory, model.artifact.spec.stream
        assert memory is not None and stream is not None
        made = Plan(0, {"process": 0}, stream.streamed_bytes, stream.least_ring, 256 << 10, 2, 1, 1, 1, 1, "")
        memory._made = lambda: made  # type: ignore[method-assign]
        for row in rows:
            model.run({"x": row[None]})
        start = model.artifact.weights_offset
        with copy.open("r+b") as file:
            for table in stream.lookups:
                file.seek(start + table.offset)
                file.write(bytes(table.size))
        with pytest.raises(EdgertError, match="is damaged"):
            for row in rows:
                model.run({"x": row[None]})


def test_a_language_model_without_half_of_its_neurons(tmp_path: Path) -> None:
    family = replace(CASES["llama"], width=256, heads=4, head=32, rotated=32, ffn=512, vocab=VOCAB, kinds=("Q4_1",))
    write(tmp_path / "m.gguf", family, keys=byte_metadata())
    text = tmp_path / "text.txt"
    text.write_text(__doc__ * 4, encoding="utf-8")
    given = Sparsity(0.5, 0.2, text)
    done, more = compile_decoder(tmp_path / "m.gguf", get_target("host"), caches=(), sparsity=given)
    write_artifact(tmp_path / "m.edge", done.manifest, done.code, done.weights(), more=more)
    assert 0.45 < done.manifest["sparsity"]["share"] < 0.55
    assert any("perplexity" in note for note in done.notes)
    checked = CliRunner().invoke(main, ["verify", str(tmp_path / "m.edge")])  # ONNX Runtime leaves out as much
    assert checked.exit_code == 0, checked.output
    ids = np.random.default_rng(4).integers(0, VOCAB, 12)
    with CachedEngine(edgert.load(tmp_path / "m.edge", 1)) as resident:
        expected = resident.prefill(ids).copy(), resident.decode(5).copy()
    with edgert.load(tmp_path / "m.edge", 1, dram="64G") as model:
        memory, stream = model.memory, model.artifact.spec.stream
        assert memory is not None and stream is not None and sum(t.chosen for t in stream.lookups) == 2
        made = Plan(0, {"process": 0}, stream.streamed_bytes // 2, stream.least_ring, 256 << 10, 2, 1, 1, 1, 1, "")
        memory._made = lambda: made  # type: ignore[method-assign]
        engine = CachedEngine(model)
        np.testing.assert_array_equal(engine.prefill(ids), expected[0])
        np.testing.assert_array_equal(engine.decode(5), expected[1])
        assert memory.figures()["chosen_rows"] > 0


def test_limits_leave_out_a_share_and_never_the_hot() -> None:
    sizes = np.abs(np.random.default_rng(0).normal(size=(400, 64))) * np.linspace(0.1, 2, 64)
    lengths = np.linspace(3, 1, 64).astype(np.float32)
    limits = limits_of(sizes, lengths, 0.4)
    assert abs(np.mean(sizes <= limits) - 0.4) < 0.01
    limits = limits_of(sizes, lengths, 0.4, hot=0.5)
    hot = limits < 0
    assert hot.sum() == 32 and (sizes * lengths).mean(0)[hot].min() >= (sizes * lengths).mean(0)[~hot].max()
    assert abs(np.mean(sizes <= limits) - 0.4) < 0.01
    assert not limits_of(sizes, lengths, 0).any()


def test_rows_lie_within_sectors() -> None:
    assert [row_bytes(n) for n in (288, 256, 100, 512, 700)] == [512, 256, 128, 512, 700]
    codes = np.arange(32, dtype=np.uint8).reshape(2, 16) % 16
    packed = pack(codes, 4, 16)
    assert packed.shape == (2, 16) and not packed[:, 8:].any()
    np.testing.assert_array_equal(np.concatenate([packed[:, :8] & 15, packed[:, :8] >> 4], 1), codes)


@pytest.mark.parametrize(("options", "reason"), [
    (["--sparsity", "0.5"], "give --calibrate FILE.txt"),
    (["--sparsity", "0.5", "--hot", "0.6", "--calibrate", __file__], "shares of neurons"),
    (["--sparsity", "0.5", "--calibrate", __file__], "--sparsity 0 skips"),
    (["--sparsity", "0", "--quant", "int8-dynamic"], "does not go with --quant"),
    (["--hot", "0.5"], "--hot goes with --sparsity"),
])  # fmt: skip
def test_wrong_use(options: list[str], reason: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["compile", str(relu_onnx()), "-o", str(tmp_path / "x.edge"), *options])
    assert done.exit_code == 2
    assert reason in done.output
