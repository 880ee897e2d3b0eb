"""`edgert verify`: an artifact's own golden inputs and outputs."""

import click

from edgert.cli.options import FILE, device_option, json_option, threads_option


@click.command()
@click.argument("path", metavar="ARTIFACT", type=FILE)
@threads_option
@device_option
@json_option
@click.pass_context
def command(ctx: click.Context, path: str, threads: int | None, device: str, as_json: bool) -> None:
    """Run an artifact on the inputs it carries and compare with the outputs it should give."""
    from edgert.interface.show import show, verify_text
    from edgert.interface.verify import verify

    result = verify(path, threads, device)
    show(result, as_json, verify_text)
    ctx.exit(0 if result.passed else 1)
