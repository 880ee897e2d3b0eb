"""`edgert compile`: a model into one artifact."""

import click

from edgert.cli.options import BYTES, FILE, flash_profile_option, json_option, shape_options, target_option


@click.command()
@click.argument("model", metavar="MODEL", type=FILE)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), metavar="FILE", help="What to write.")
@target_option
@shape_options
@click.option("--quant", metavar="SCHEME", help="Quantize first: int8, int8-dynamic, int4, auto, ...")
@click.option(
    "--calibrate", type=click.Path(exists=True), metavar="DATA", help="Samples for --quant: an .npz file or a folder."
)
@click.option("--ram", type=BYTES, help="Most bytes of arena, as in 256K: splits operators to fit, or exit code 4.")
@flash_profile_option
@click.option(
    "--dram", type=BYTES, help="Memory for the whole process that runs it, as in 64M; weights beyond it are streamed."
)
@click.option("--context", type=click.IntRange(min=2), help="Of a language model (.gguf): most tokens of a text.")
@click.option(
    "--tune", type=click.IntRange(min=0), default=0, metavar="TRIALS", help="Measure so many tilings a kernel."
)
@click.option(
    "--emit", default="edge", show_default=True, metavar="FORMAT",
    help="exe: a program. For microcontrollers: elf, a firmware.",
)  # fmt: skip
@click.option("--golden/--no-golden", default=True, help="Put inputs and right answers in, for `edgert verify`.")
@click.option(
    "--debug-dump", type=click.Path(file_okay=False), metavar="DIR", help="Write graph and plan of each phase."
)
@json_option
def command(
    model: str,
    output: str,
    target: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    dims: tuple[tuple[str, tuple[int, int]], ...],
    quant: str | None,
    calibrate: str | None,
    ram: int | None,
    dram: int | None,
    context: int | None,
    tune: int,
    emit: str,
    golden: bool,
    debug_dump: str | None,
    as_json: bool,
) -> None:
    """Compile a MODEL (.onnx, .gguf) into one file that runs with nothing but the small runner."""
    from edgert.cli.progress import progress_bar
    from edgert.interface.build import build, report_text
    from edgert.interface.show import show

    with progress_bar("compile") as progress:
        report = build(
            model,
            output,
            target=target,
            shapes=dict(shapes),
            dims=dict(dims),
            ram=ram,
            dram=dram,
            context=context,
            tune=tune,
            emit=emit,
            golden=golden,
            debug_dump=debug_dump,
            progress=progress,
            quant=quant,
            calibrate=calibrate,
        )
    show(report, as_json, report_text)
