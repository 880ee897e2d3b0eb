"""The front door: what it lists, what it imports, what it says when something goes wrong."""

import json
import os
import subprocess
import sys

import click
import pytest

from edgert.cli import COMMANDS, LazyGroup, main
from edgert.cli.errors import describe, missing_extra
from edgert.errors import DoesNotFit, EdgertError, UnsupportedModel
from tests.cli.conftest import Edgert, assert_one_line

HEAVY = ("tvm", "onnx", "onnx_ir", "onnxruntime", "llvmlite", "openvino")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env)


def test_help_lists_every_command(edgert: Edgert) -> None:
    result = edgert("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(edgert: Edgert, name: str) -> None:
    result = edgert(name, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_help_imports_no_library() -> None:
    code = f"""
import sys
from edgert.cli import main
try: main(["--help"])
except SystemExit: pass
print([name for name in ("numpy", "rich", *{HEAVY}) if name in sys.modules])
"""
    assert python(code).stdout.splitlines()[-1] == "[]"


def test_run_imports_no_compiler(fake: os.PathLike[str]) -> None:
    code = f"""
import sys
from edgert.cli import main
try: main(["verify", {str(fake)!r}])
except SystemExit as end: assert end.code == 0
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = python(code)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("args", [["nonsense"], ["run"], ["run", "--nonsense"], ["compile", "absent.onnx", "-o", "x"]])
def test_wrong_use_is_one_line_and_2(edgert: Edgert, args: list[str]) -> None:
    assert_one_line(edgert(*args), 2, "--help")


def test_version(edgert: Edgert) -> None:
    from edgert import __version__

    assert __version__ in edgert("--version").stdout


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (EdgertError("broken"), 1, "broken"),
        (UnsupportedModel("no such operator"), 3, "no such operator"),
        (DoesNotFit("need 2, have 1"), 4, "need 2, have 1"),
        (click.UsageError("what?"), 2, "what?"),
        (MemoryError(), 1, "out of memory"),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "/root/x: Permission denied"),
    ],
)
def test_errors_have_their_exit_code(error: Exception, code: int, message: str) -> None:
    assert describe(error) == (message, code)


def failing(error: BaseException) -> LazyGroup:
    group = LazyGroup("edgert")

    def callback(as_json: bool) -> None:
        raise error

    command = click.Command("fail", callback=callback, params=[click.Option(["--json", "as_json"], is_flag=True)])
    group.get_command = lambda ctx, name: command  # type: ignore[method-assign]
    return group


def call(group: LazyGroup, *args: str) -> int:
    with pytest.raises(SystemExit) as end:
        group.main(["fail", *args])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_bug_is_one_line_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(failing(TypeError("two\nlines"))) == 1
    assert capsys.readouterr().err == "edgert: internal error: TypeError: two (EDGERT_TRACEBACK=1 shows where)\n"


def test_the_traceback_can_be_had(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGERT_TRACEBACK", "1")
    assert call(failing(TypeError("x"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_json_errors_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(failing(DoesNotFit("need 2, have 1")), "--json") == 4
    assert json.loads(capsys.readouterr().out) == {"error": "need 2, have 1", "exit_code": 4}


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(failing(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.strip() == "edgert: interrupted"


def test_a_reader_that_leaves_is_no_error(fake: os.PathLike[str]) -> None:
    # The pipe's reading end is closed before anything is written.
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "edgert.cli", "verify", str(fake), "--json"]
    done = subprocess.run(command, check=False, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""


def test_a_missing_package_is_named() -> None:
    error = missing_extra(ModuleNotFoundError("no tvm", name="tvm.ir"), "edgert inspect", "compiler")
    assert str(error) == "edgert inspect needs the package tvm: pip install 'edgert[compiler]'"
    own = ModuleNotFoundError("a bug", name="compiler.absent")
    assert missing_extra(own, "edgert inspect", "compiler") is own


def test_the_entry_point_is_the_group() -> None:
    assert isinstance(main, LazyGroup)
