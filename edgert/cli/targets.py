"""`edgert targets`: what can be compiled for."""

import click

from edgert.cli.options import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the targets to compile for, and which of them is this machine's own."""
    from edgert.interface.show import show
    from edgert.interface.targets import list_targets, targets_text

    show({"targets": list_targets()}, as_json, targets_text)
