"""Loading and running: answers, checks of inputs, sessions, threads."""

import contextlib
import gc
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert import cpu
from edgert.errors import DoesNotFit, EdgertError, UsageError
from tests.edgert import fake_artifact as fake


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 7, 100, fake.ROWS])
def test_answers_are_exact_for_any_extent_and_thread_count(fake_path: Path, rows: int, threads: int) -> None:
    inputs = fake.make_inputs(rows)
    with edgert.load(fake_path, threads=threads) as model:
        for _ in range(3):
            result = model.run(inputs)
            for name, wanted in fake.expected(inputs).items():
                np.testing.assert_array_equal(result[name], wanted, strict=True)


def test_manifest_and_sizes(fake_path: Path) -> None:
    with edgert.load(fake_path, threads=3) as model:
        assert model.manifest["name"] == "fake"
        assert model.arena_bytes == model.manifest["arena_bytes"] == len(model._arena)
        assert model.threads == 3


def test_inputs_of_any_memory_layout(fake_path: Path) -> None:
    inputs = fake.make_inputs(16)
    wanted = fake.expected(inputs)["z"]
    unaligned = np.frombuffer(b"\0" + inputs["y"].tobytes(), np.uint8)[1:].view(np.float32).reshape(16, 4)
    layouts = {
        "fortran": np.asfortranarray(inputs["x"]),
        "strided": np.repeat(inputs["x"], 2, axis=0)[::2],
        "big endian": inputs["x"].astype(">f4"),
        "read only": np.frombuffer(inputs["x"].tobytes(), np.float32).reshape(16, 4),
        "nested list of float32": [list(row) for row in inputs["x"]],
    }
    with edgert.load(fake_path) as model:
        for layout, x in layouts.items():
            got = model.run({"x": x, "y": unaligned})["z"]
            np.testing.assert_array_equal(got, wanted, err_msg=layout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "missing input 'y': the model takes 'x', 'y'"),
        ({"q": np.zeros(1)}, "unknown input 'q': the model takes 'x', 'y'"),
        ({"x": np.zeros((16, 4))}, "input 'x' is float64, expected float32"),
        ({"x": np.zeros((16, 5), np.float32)}, r"'x' has shape \[16, 5\], expected \[n=1..1024, 4\]"),
        ({"x": np.zeros(16, np.float32)}, r"'x' has shape \[16\], expected \[n=1..1024, 4\]"),
        ({"x": np.zeros((1025, 4), np.float32)}, "'x' has n = 1025, the model was compiled for 1 to 1024"),
        ({"x": np.zeros((0, 4), np.float32)}, "'x' has n = 0, the model was compiled for 1 to 1024"),
        ({"x": np.zeros((15, 4), np.float32)}, "n is 16 in input 'y' but 15 in 'x'"),
    ],
)
def test_inputs_that_do_not_fit(fake_path: Path, change: dict, message: str) -> None:
    inputs = {name: value for name, value in (fake.make_inputs(16) | change).items() if value is not None}
    with edgert.load(fake_path) as model, pytest.raises(UsageError, match=message):
        model.run(inputs)


def test_out_arrays_are_written_in_place(fake_path: Path) -> None:
    inputs = fake.make_inputs(10)
    wanted = fake.expected(inputs)
    out = {"z": np.zeros((fake.ROWS, 4), np.float32), "some/positive:0": np.zeros(fake.ROWS * 4, np.float32)}
    with edgert.load(fake_path) as model:
        result = model.run(inputs, out=out)
    for name, array in result.items():
        assert np.shares_memory(array, out[name])
        np.testing.assert_array_equal(array, wanted[name], strict=True)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ({"nope": np.zeros(1)}, "out has an unknown name"),
        ({"z": np.zeros((fake.ROWS, 4))}, "is not an array of float32"),
        ({"z": np.zeros((10, 4), np.float32)}, "has 160 bytes, the output may take 16384"),
        ({"z": np.zeros((4, fake.ROWS), np.float32).T}, "is not contiguous and writable"),
    ],
)
def test_out_arrays_that_do_not_fit(fake_path: Path, out: dict, message: str) -> None:
    with edgert.load(fake_path) as model, pytest.raises(UsageError, match=message):
        model.run(fake.make_inputs(10), out=out)


def test_out_may_not_overlap_an_input(fake_path: Path) -> None:
    both = np.zeros((fake.ROWS, 4), np.float32)
    with edgert.load(fake_path) as model, pytest.raises(UsageError, match="overlaps"):
        model.run({"x": both, "y": np.zeros_like(both)}, out={"z": both})


def test_a_failing_step_is_named(fake_path: Path) -> None:
    inputs = fake.make_inputs(10)
    inputs["x"][0, 0] = np.nan
    with edgert.load(fake_path) as model:
        with pytest.raises(EdgertError, match=r"step 1, 'select' \(Compress\), failed"):
            model.run(inputs)
        inputs = fake.make_inputs(10)
        np.testing.assert_array_equal(model.run(inputs)["z"], fake.expected(inputs)["z"])


def test_an_extent_beyond_the_room_is_refused(tmp_path: Path) -> None:
    fake.make_artifact(tmp_path / "m.edge", fake.compile_code(tmp_path, fake.HERE / "fake_model.c", "-DOVERRUN"))
    with edgert.load(tmp_path / "m.edge") as model, pytest.raises(EdgertError, match="gave output 'some/positive:0'"):
        model.run(fake.make_inputs(10))


def test_profile_counts_every_step(fake_path: Path) -> None:
    with edgert.load(fake_path) as model:
        steps = model.profile(fake.make_inputs(fake.ROWS), runs=2)
    assert [step["name"] for step in steps] == ["scale", "select"]
    assert all(0 < step["ns"] < 10**10 for step in steps)


def test_many_python_threads_on_one_session_and_on_clones(fake_path: Path) -> None:
    wrong: list[str] = []

    def work(model: edgert.runner.Model, seed: int) -> None:
        for repeat in range(60):
            inputs = fake.make_inputs(1 + (seed * 31 + repeat * 7) % fake.ROWS, seed + repeat)
            result = model.run(inputs)
            wrong.extend(
                name for name, value in fake.expected(inputs).items() if not np.array_equal(result[name], value)
            )

    with edgert.load(fake_path, threads=3) as model:
        sessions = [model, model, model.clone(), model.clone()]
        threads = [threading.Thread(target=work, args=(session, seed)) for seed, session in enumerate(sessions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_clone_outlives_its_origin(fake_path: Path) -> None:
    model = edgert.load(fake_path)
    clone = model.clone()
    model.close()
    inputs = fake.make_inputs(5)
    np.testing.assert_array_equal(clone.run(inputs)["z"], fake.expected(inputs)["z"])
    with pytest.raises(UsageError, match="the model is closed"):
        model.run(inputs)


@pytest.mark.parametrize("flags", [(), ("-Wl,-z,nodelete",)])
def test_different_codes_loaded_in_turn_do_not_mix(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """The dynamic linker knows libraries by path, and a path under /proc/self/fd comes back."""
    source = tmp_path / "other.c"
    source.write_text((fake.HERE / "fake_model.c").read_text().replace("+ y[i]", "- y[i]"))
    for name, file in (("a", fake.HERE / "fake_model.c"), ("b", source)):
        fake.make_artifact(tmp_path / f"{name}.edge", fake.compile_code(tmp_path, file, *flags))
    inputs = fake.make_inputs(4)
    for _ in range(3):
        for name, sign in (("a", 1), ("b", -1)):
            model = edgert.load(tmp_path / f"{name}.edge")
            np.testing.assert_array_equal(model.run(inputs)["z"], inputs["x"] * fake.SCALE + sign * inputs["y"])
            del model


def test_a_forked_child_without_workers_answers_right(fake_path: Path) -> None:
    inputs = fake.make_inputs(fake.ROWS)
    with edgert.load(fake_path, threads=4) as model:
        model.run(inputs)
        child = os.fork()
        if child == 0:
            good = np.array_equal(model.run(inputs)["z"], fake.expected(inputs)["z"])
            os._exit(0 if good else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_machine_is_checked(tmp_path: Path, fake_code: Path) -> None:
    target = {"name": "t", "triple": "x86_64-unknown-linux-gnu", "features": ["avx9000"]}
    fake.make_artifact(tmp_path / "f.edge", fake_code, target={**target, "triple": f"{cpu.architecture()}-linux"})
    with pytest.raises(EdgertError, match="needs avx9000, which this processor lacks"):
        edgert.load(tmp_path / "f.edge")
    fake.make_artifact(tmp_path / "m.edge", fake_code, target={**target, "triple": "thumbv7em-unknown-none-eabihf"})
    with pytest.raises(EdgertError, match="compiled for thumbv7em, this machine is"):
        edgert.load(tmp_path / "m.edge")


def test_budgets(tmp_path: Path, fake_path: Path, fake_code: Path) -> None:
    need = 16384 * 5 + 10_000  # arena, two inputs, two outputs, weights
    with edgert.load(fake_path, dram=need):
        pass
    with pytest.raises(DoesNotFit, match=rf"needs {need} bytes \(.*\), the budget is {need - 1} "):
        edgert.load(fake_path, dram=need - 1)
    with pytest.raises(UsageError, match="not an amount of memory"):
        edgert.load(fake_path, dram="lots")
    fake.make_artifact(tmp_path / "huge.edge", fake_code, arena_bytes=1 << 45)
    with pytest.raises(DoesNotFit, match=r"needs 35184372154368 bytes .*, free are"):
        edgert.load(tmp_path / "huge.edge")


@pytest.mark.parametrize("threads", [0, -1, 257, 1.5, True])
def test_thread_counts_that_make_no_sense(fake_path: Path, threads: object) -> None:
    with pytest.raises(UsageError, match="give a number from 1 to 256"):
        edgert.load(fake_path, threads=threads)  # type: ignore[arg-type]


def test_where_memory_files_are_not_allowed(tmp_path: Path, fake_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    inputs = fake.make_inputs(4)
    with edgert.load(fake_path) as model:
        np.testing.assert_array_equal(model.run(inputs)["z"], fake.expected(inputs)["z"])
    assert list(tmp_path.iterdir()) == []


def test_code_that_cannot_be_loaded(tmp_path: Path, fake_code: Path) -> None:
    fake.make_artifact(tmp_path / "e.edge", fake_code, entry="other")
    with pytest.raises(EdgertError, match=r"the model code cannot be loaded: .*undefined symbol: other"):
        edgert.load(tmp_path / "e.edge")
    (tmp_path / "text").write_text("not a program")
    fake.make_artifact(tmp_path / "t.edge", tmp_path / "text")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(EdgertError, match="the model code cannot be loaded"):
            edgert.load(tmp_path / "t.edge")
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_closed_model_gives_everything_back(fake_path: Path) -> None:
    def held() -> tuple[int, set[tuple[str, str]]]:
        """Mappings of the model, and open files by number and name."""
        gc.collect()
        lines = Path("/proc/self/maps").read_text()
        files = set()
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # that of the listing itself
                files.add((number, os.readlink(f"/proc/self/fd/{number}")))
        return lines.count(str(fake_path)) + lines.count("edgert-code"), files

    mappings, files = held()
    for _ in range(5):
        model = edgert.load(fake_path)
        clone = model.clone()
        model.run(fake.make_inputs(3))
        model.close()
        clone.close()
        del model, clone
    after, open_now = held()
    assert after == mappings
    assert open_now <= files  # threads of other tests may close theirs meanwhile


def test_bound_arrays_run_again_on_what_they_hold_now(fake_path: Path) -> None:
    with edgert.load(fake_path, threads=1) as model:
        inputs = fake.make_inputs(fake.ROWS)
        out = {tensor.name: np.zeros(tensor.max_shape, np.float32) for tensor in model.artifact.spec.outputs}
        bound = model.bind(inputs, out)
        for seed in (0, 1):
            for name, array in fake.make_inputs(fake.ROWS, seed).items():
                inputs[name][...] = array
            bound.run()
            for name, wanted in fake.expected(inputs).items():
                np.testing.assert_array_equal(out[name].reshape(-1)[: wanted.size], wanted.reshape(-1))
        with pytest.raises(UsageError, match="one for every output"):
            model.bind(inputs, {})
        with pytest.raises(UsageError, match="contiguous"):
            model.bind(inputs | {"x": np.asfortranarray(inputs["x"])}, out)
    with pytest.raises(UsageError, match="closed"):
        bound.run()
