"""`edgert deploy`: an artifact onto a device."""

import click

from edgert.cli.options import json_option


@click.command()
@click.argument("path", metavar="ARTIFACT", type=click.Path(dir_okay=False))
@click.argument("uri", metavar="URI")
@click.option("--rollback", is_flag=True, help="Exchange the artifact there with the one it replaced; sends nothing.")
@json_option
def command(path: str, uri: str, rollback: bool, as_json: bool) -> None:
    """Put an artifact into a folder of a device (ssh://user@host:port/folder, adb://serial/folder) and run it there.

    It takes the old one's place in one step, after it ran right. What the device has already is not sent again, also
    after a connection broke; the runner, which needs nothing else there, goes with it."""
    from edgert.cli.progress import progress_bar
    from edgert.deploy.deploy import deploy, roll_back
    from edgert.interface.deploy import deploy_text, rollback_text
    from edgert.interface.show import show

    if rollback:
        show(roll_back(path, uri), as_json, rollback_text)
        return
    with progress_bar("deploy") as progress:
        result = deploy(path, uri, progress)
    show(result, as_json, deploy_text)
