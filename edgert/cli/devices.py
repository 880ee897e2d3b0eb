"""`edgert devices`: what artifacts can run on from here."""

import click

from edgert.cli.options import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the devices to run on."""
    from edgert.interface.devices import devices
    from edgert.interface.show import devices_text, show

    show({"devices": devices()}, as_json, devices_text)
