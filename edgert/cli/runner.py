"""`edgert runner`: the program that runs artifacts where no Python is."""

import click

from edgert.cli.options import json_option, target_option


@click.command()
@click.option("-o", "--output", required=True, type=click.Path(), metavar="FILE|DIR", help="What to write.")
@target_option
@click.option(
    "--emit", type=click.Choice(["exe", "lib"]), default="exe", show_default=True,
    help="lib: into a folder, the shared library for applications and its header.",
)  # fmt: skip
@json_option
def command(output: str, target: str, emit: str, as_json: bool) -> None:
    """Write one static program that opens any artifact for the target's machine, checks it, runs and times it."""
    from edgert.interface.runner import runner_text, write_runner
    from edgert.interface.show import show

    show(write_runner(output, target, emit), as_json, runner_text)
