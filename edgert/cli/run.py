"""`edgert run`: an artifact or a model on real inputs."""

import click

from edgert.cli.options import FILE, INPUT, device_option, dram_option, json_option, shape_options, threads_option


@click.command()
@click.argument("path", metavar="ARTIFACT|MODEL", type=FILE)
@click.option(
    "--input",
    "sources",
    type=INPUT,
    multiple=True,
    help="An input: a .npy, .png, .wav or .txt file, a number, or zeros.",
)
@click.option("--output", type=click.Path(file_okay=False), help="Write each output to this folder as NAME.npy.")
@click.option("--profile", is_flag=True, help="Show the time of each step.")
@shape_options
@threads_option
@dram_option
@device_option
@json_option
def command(
    path: str,
    sources: tuple[tuple[str, str], ...],
    output: str | None,
    profile: bool,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    dims: tuple[tuple[str, tuple[int, int]], ...],
    threads: int | None,
    dram: int | str | None,
    device: str,
    as_json: bool,
) -> None:
    """Run an artifact on inputs from files; a MODEL (.onnx) is compiled first, for this once."""
    from edgert.interface.run import run
    from edgert.interface.show import run_text, show

    result = run(path, sources, output, profile, dict(shapes), dict(dims), threads, device, dram)
    show(result, as_json, run_text)
