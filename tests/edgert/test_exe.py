"""The standalone program answers as the Python runner does, byte for byte, and fails as politely."""

import json
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgert
from edgert import elfimage, exe
from edgert.errors import EdgertError
from tests.edgert import fake_artifact as fake


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, fake_path: Path) -> Path:
    return exe.build(fake_path, tmp_path_factory.mktemp("program") / "fake")


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("rows", [1, 100, fake.ROWS])
@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_are_byte_identical(tmp_path: Path, program: Path, fake_path: Path, rows: int, threads: int) -> None:
    inputs = fake.make_inputs(rows)
    done = run(program, *fake.save_inputs(tmp_path, inputs), "--output", tmp_path / "out", "--threads", threads)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with edgert.load(fake_path, threads=threads) as model:
        results = model.run(inputs)
    fake.assert_outputs(tmp_path / "out", results)


def test_it_needs_nothing(program: Path) -> None:
    with program.open("rb") as file:
        image = file.read()
    assert b"ld-linux" not in image
    assert b"/libc.so" not in image
    assert image[16:18] == b"\x02\x00"  # ET_EXEC: no relocation at start, code pages shared with the file


def test_verify_and_times(program: Path) -> None:
    done = run(program, "--verify", "--time", 5, "--profile")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "z: error 0 of the range, passed"
    assert lines[1] == "some/positive:0: error 0 of the range, passed"
    assert lines[2].startswith("5 runs, ")
    assert [line.split("  ")[-1] for line in lines[3:]] == ["scale (Mul)", "select (Compress)"]
    times = json.loads(run(program, "--verify", "--time", 3, "--json").stdout.splitlines()[-1])
    assert times["runs"] == 3
    assert 0 < times["best_ms"] <= times["median_ms"]


def test_verify_notices_a_wrong_answer(tmp_path: Path, fake_code: Path) -> None:
    inputs = fake.make_inputs(8)
    wanted = fake.expected(inputs)
    wanted["z"][3, 1] += 1
    manifest = fake.make_manifest(10_000)
    program = exe.build_from(manifest, fake_code.read_bytes(), fake.make_weights(), tmp_path / "p", inputs, wanted)
    done = run(program, "--verify")
    assert done.returncode == 1
    assert "FAILED" in done.stdout.splitlines()[0]


def test_fortran_order(tmp_path: Path, program: Path) -> None:
    inputs = fake.make_inputs(20)
    words = fake.save_inputs(tmp_path, {name: np.asfortranarray(array) for name, array in inputs.items()})
    assert run(program, *words, "--output", tmp_path).returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), fake.expected(inputs)["z"])


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"x": None}, 2, "missing input 'x': give --input 'x=FILE.npy'"),
        ({"q": np.zeros(3)}, 2, "write NAME=FILE.npy with a name that --help lists"),
        ({"x": np.zeros((16, 4))}, 2, "input 'x' is <f8, expected <f4"),
        ({"x": np.zeros((16, 5), np.float32)}, 2, "input 'x' has shape [16, 5]"),
        ({"x": np.zeros((1025, 4), np.float32)}, 2, "has n = 1025, the model was compiled for 1 to 1024"),
        ({"x": np.zeros((15, 4), np.float32)}, 2, "n is 16 in input 'y' but 15 in 'x': give the same"),
        ({"x": np.full((16, 4), np.nan, np.float32)}, 1, "step 1, 'select' (Compress), failed on these inputs"),
    ],
)
def test_bad_inputs(tmp_path: Path, program: Path, change: dict, code: int, message: str) -> None:
    inputs = {name: value for name, value in (fake.make_inputs(16) | change).items() if value is not None}
    done = run(program, *fake.save_inputs(tmp_path, inputs), "--output", tmp_path / "out")
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--what"], 2, "--what is not an option"),
        (["--time"], 2, "--time needs a value"),
        (["--time", "0"], 2, "--time 0: give a number from 1"),
        (["--threads", "two"], 2, "--threads two: give a number from 1 to 256"),
        (["--input", "x=/none.npy"], 2, "/none.npy: No such file or directory"),
        (["--input", "x=/"], 2, "/: not a regular file"),
        (["--input", "x=/dev/zero"], 2, "not a regular file"),
    ],
)
def test_bad_options(program: Path, words: list[str], code: int, message: str) -> None:
    done = run(program, *words)
    assert done.returncode == code
    assert message in done.stderr


def test_npy_files_cut_or_changed_anywhere(tmp_path: Path, program: Path) -> None:
    inputs = fake.make_inputs(4)
    words = fake.save_inputs(tmp_path, inputs)
    good = (tmp_path / "x.npy").read_bytes()
    generator = np.random.default_rng(5)
    for _ in range(60):
        data = bytearray(good)
        data[generator.integers(0, 128)] = generator.integers(0, 256)
        (tmp_path / "x.npy").write_bytes(data)
        assert run(program, *words).returncode in (0, 1, 2)
    for cut in (0, 5, 11, 60, len(good) - 1):
        (tmp_path / "x.npy").write_bytes(good[:cut])
        assert run(program, *words).returncode == 1


def test_a_cut_program_says_so(tmp_path: Path, program: Path) -> None:
    whole = program.read_bytes()
    for size in (len(whole) - 1, len(whole) - 5000):
        (tmp_path / "cut").write_bytes(whole[:size])
        (tmp_path / "cut").chmod(0o755)
        done = run(tmp_path / "cut", "--verify")
        assert done.returncode == 1
        assert "its file is damaged" in done.stderr


def test_features_are_checked(tmp_path: Path, fake_code: Path) -> None:
    target = {"name": "t", "triple": fake.make_manifest(0)["target"]["triple"], "features": ["fpu", "avx9"]}
    manifest = fake.make_manifest(10_000, target=target)
    program = exe.build_from(manifest, fake_code.read_bytes(), fake.make_weights(), tmp_path / "p")
    done = run(program)
    assert done.returncode == 1
    assert "needs avx9, which this processor lacks" in done.stderr


TABLES = """
#include "edgert.h"
static int32_t one(edgert_ctx *c) { ((float *)c->io[2])[0] = 1; return 0; }
static int32_t two(edgert_ctx *c) { ((float *)c->io[2])[0] = 2; return 0; }
static int32_t (*const table[])(edgert_ctx *) = {one, two};
%s
int32_t edgert_run(edgert_ctx *c) { c->dims[1] = 0; %s return table[c->dims[0] > 1](c); }
"""


def test_code_with_pointers_in_its_data(tmp_path: Path) -> None:
    """Tables of addresses need relocation; the image must resolve them."""
    (tmp_path / "t.c").write_text(TABLES % ("", ""))
    code = fake.compile_code(tmp_path, tmp_path / "t.c")
    program = exe.build_from(fake.make_manifest(0), code.read_bytes(), [], tmp_path / "p")
    for rows in (1, 2):
        assert (
            run(program, *fake.save_inputs(tmp_path, fake.make_inputs(rows)), "--output", tmp_path / "o").returncode
            == 0
        )
        assert np.load(tmp_path / "o" / "z.npy")[0, 0] == rows


def test_code_that_is_not_freestanding_is_refused(tmp_path: Path, fake_code: Path) -> None:
    (tmp_path / "w.c").write_text(TABLES % ("static int64_t calls;", "if (++calls > 3) return 1;"))
    (tmp_path / "i.c").write_text(TABLES % ("int other(void);", "other();"))
    writes = fake.compile_code(tmp_path, tmp_path / "w.c").read_bytes()
    imports = fake.compile_code(tmp_path, tmp_path / "i.c", "-Wl,--allow-shlib-undefined", "-Wl,-z,undefs").read_bytes()
    for code, message in ((writes, "writes to"), (imports, "freestanding|elsewhere"), (b"no ELF" * 99, "not a 64-bit")):
        with pytest.raises(EdgertError, match=f"the model code cannot become a program: .*({message})"):
            elfimage.assemble(memoryview(code), "code", "edgert_run", "x86_64")
    with pytest.raises(EdgertError, match="does not define nothing"):
        elfimage.assemble(memoryview(fake_code.read_bytes()), "code", "nothing", "x86_64")


def test_damaged_code_gives_one_error(fake_code: Path) -> None:
    good = fake_code.read_bytes()
    generator = np.random.default_rng(7)
    for _ in range(300):
        data = bytearray(good)
        data[generator.integers(0, 1024)] = generator.integers(0, 256)
        try:
            elfimage.assemble(memoryview(bytes(data)), "code", "edgert_run", "x86_64")
        except EdgertError as error:
            assert "\n" not in str(error)


@pytest.mark.slow
def test_a_program_for_another_architecture(tmp_path: Path) -> None:
    """Cross-built from this machine; run where QEMU's user mode is installed."""
    code = fake.compile_code(tmp_path, machine="aarch64")
    target = {"name": "aarch64", "triple": "aarch64-unknown-linux-gnu", "features": []}
    inputs = fake.make_inputs(9)
    program = exe.build_from(
        fake.make_manifest(10_000, target=target),
        code.read_bytes(),
        fake.make_weights(),
        tmp_path / "p",
        inputs,
        fake.expected(inputs),
    )
    assert program.read_bytes()[18:20] == (183).to_bytes(2, "little")  # EM_AARCH64
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if platform.machine() != "aarch64" and not emulator:
        pytest.skip("built, not run: no qemu-aarch64")
    command = [str(program)] if platform.machine() == "aarch64" else [str(emulator), str(program)]
    done = subprocess.run([*command, "--verify", "--threads", "2"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("passed")) == (0, 2), done.stderr
