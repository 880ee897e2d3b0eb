"""`edgert devices`: what artifacts can run on from here, and how fast their flash is."""

import click

from edgert.cli.options import BYTES, json_option


@click.command()
@click.option(
    "--profile",
    metavar="NAME",
    help="Flash and memory: `local` measures and keeps it, other names show a known device.",
)
@click.option(
    "--folder", type=click.Path(), default=".", show_default=True, help="Where `local` makes its file, and removes it."
)
@click.option("--size", type=BYTES, default="256M", show_default=True, help="Of that file.")
@json_option
def command(profile: str | None, folder: str, size: int, as_json: bool) -> None:
    """List the devices to run on; with --profile, tell how fast the flash and memory of one are."""
    if profile is None:
        from edgert.interface.devices import devices
        from edgert.interface.show import devices_text, show

        show({"devices": devices()}, as_json, devices_text)
        return
    from pathlib import Path

    from edgert.cli.progress import progress_bar
    from edgert.interface.flash_profile import measure, show_profile, store
    from flashload.named_profiles import LOCAL, named

    if profile != LOCAL:
        show_profile(named(profile), as_json)
        return
    with progress_bar("measure") as progress:
        made = measure(Path(folder), size, progress)
    store(made)
    show_profile(made, as_json)
