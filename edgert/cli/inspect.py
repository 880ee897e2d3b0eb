"""`edgert inspect`: what is in a model or an artifact."""

import click

from edgert.cli.options import BYTES, FILE, flash_profile_option, json_option, shape_options, target_option


@click.command()
@click.argument("path", metavar="MODEL|ARTIFACT", type=FILE)
@target_option
@shape_options
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE.svg|html", help="Draw the arena over time.")
@click.option("--ram", type=BYTES, help="Plan a model for an arena of so many bytes, as in 256K.")
@flash_profile_option
@click.option("--dram", type=BYTES, help="Plan an artifact for a process of so many bytes, as in 64M.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    path: str,
    target: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    dims: tuple[tuple[str, tuple[int, int]], ...],
    plot: str | None,
    ram: int | None,
    dram: int | None,
    as_json: bool,
) -> None:
    """Show operators, sizes, memory over time, and what would not compile and why (then the exit code is 3)."""
    from edgert.cli.errors import missing_extra
    from edgert.errors import UnsupportedModel
    from edgert.interface.inspect import inspect
    from edgert.interface.show import print_json

    try:
        found = inspect(path, target, dict(shapes), dict(dims), plot, ram, dram)
    except ModuleNotFoundError as error:
        raise missing_extra(error, "inspecting a model", "compiler") from None
    if as_json:
        print_json(found.data)
    else:
        click.echo(found.text)
    ctx.exit(0 if found.supported else UnsupportedModel.exit_code)
