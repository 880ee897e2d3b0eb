"""What a user sees when something goes wrong: one line on stderr and an exit code, never a traceback."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import click

from edgert.errors import EdgertError, UsageError

OWN_PACKAGES = ("edgert", "compiler", "quant", "flashload", "targets")
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def run_safely(call: Callable[..., Any], args: Any, prog_name: str, **extra: Any) -> NoReturn:
    """Call click's `main` with `args` and exit: with the command's own code, or as the error says.

    With --json among the arguments the error also comes as a JSON object on stdout: {"error": ..., "exit_code": ...};
    what does not fit has `need`, `have` and the like as well.
    EDGERT_TRACEBACK=1 adds the traceback of whatever was raised.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    details: dict[str, object] = {}
    try:
        code = call(arguments, prog_name, standalone_mode=False, **extra)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except BrokenPipeError:
        # The reader left (`| head`): nothing to say, but Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        message, code = "interrupted", INTERRUPTED
    except Exception as error:
        message, code = describe(error)
        details = getattr(error, "details", {})
        if os.environ.get("EDGERT_TRACEBACK") == "1":
            traceback.print_exc()
    click.echo(f"edgert: {message}", err=True)
    if "--json" in arguments:
        click.echo(json.dumps({"error": message, "exit_code": code, **details}))
    sys.exit(code)


def describe(error: Exception) -> tuple[str, int]:
    """The message for the user and the exit code of any exception."""
    if isinstance(error, EdgertError):
        return str(error), error.exit_code
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        return " ".join(error.format_message().split()) + hint, error.exit_code
    if isinstance(error, MemoryError):
        return "out of memory", EdgertError.exit_code
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}", EdgertError.exit_code
    hint = "" if os.environ.get("EDGERT_TRACEBACK") == "1" else " (EDGERT_TRACEBACK=1 shows where)"
    first_line = next(iter(str(error).splitlines()), "")
    return f"internal error: {type(error).__name__}: {first_line}{hint}", EdgertError.exit_code


def missing_extra(error: ModuleNotFoundError, what: str, extra: str) -> Exception:
    """The error to raise when `what` needs a package that only comes with an extra of this project.

    A missing module of our own is a bug and stays what it is.
    """
    package = (error.name or "").split(".")[0]
    if package in OWN_PACKAGES:
        return error
    return UsageError(f"{what} needs the package {package}: pip install 'edgert[{extra}]'")
