"""`edgert compile`: a model into one artifact."""

from pathlib import Path

import click

from edgert.cli.options import BYTES, KV_CACHES, MODEL, flash_profile_option, json_option, shape_options, target_option


@click.command()
@click.argument("model", metavar="MODEL", type=MODEL)
@click.option("-o", "--output", required=True, type=click.Path(), metavar="FILE", help="What to write.")
@target_option
@shape_options
@click.option("--quant", metavar="SCHEME", help="Quantize first: int8, int8-dynamic, int4, auto, ...")
@click.option(
    "--calibrate", type=click.Path(exists=True), metavar="DATA",
    help="Samples for --quant: an .npz file or a folder. A text for --sparsity.",
)  # fmt: skip
@click.option(
    "--sparsity", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE",
    help="Of a language model: leave out such a share of neurons, as in 0.5, where they add least (lossy).",
)  # fmt: skip
@click.option(
    "--hot", type=click.FloatRange(0, 1), default=0.0, metavar="SHARE", help="With --sparsity: neurons never left out."
)
@click.option(
    "--ram", type=BYTES, help="Most bytes of arena (of a microcontroller: of RAM), as in 256K, or exit code 4."
)
@click.option(
    "--code",
    type=click.Choice(["auto", "none"]),
    default="none",
    show_default=True,
    help="auto: code weights without loss where that makes reading them from --flash-profile faster.",
)
@flash_profile_option
@click.option(
    "--dram", type=BYTES, help="Memory for the whole process that runs it, as in 64M; weights beyond it are streamed."
)
@click.option("--context", type=click.IntRange(min=2), help="Of a language model: most tokens of a text.")
@click.option(
    "--io", type=click.Choice(["float", "quantized"]), default="float", show_default=True,
    help="quantized: inputs and outputs that the model quantizes are its integers.",
)  # fmt: skip
@click.option(
    "--tune", type=click.IntRange(min=0), default=0, metavar="TRIALS", help="Measure so many tilings a kernel."
)
@click.option(
    "--kv",
    type=click.Choice(list(KV_CACHES)),
    help="Of a language model with --emit exe: how it keeps keys and values.",
)
@click.option(
    "--emit", default="edge", show_default=True, metavar="FORMAT",
    help="exe: a program. For microcontrollers: elf (firmware), and into a folder lib, c, cmake, zephyr, arduino.",
)  # fmt: skip
@click.option("--board", metavar="NAME|FILE.toml", help="Of a microcontroller: the board whose memory it has to fit.")
@click.option("--flash", type=BYTES, help="Of a microcontroller: most bytes of flash, or exit code 4.")
@click.option(
    "--weights-in", type=click.Choice(["flash", "external"]), default="flash", show_default=True,
    help="Of a microcontroller: external is flash that is read by blocks while the model runs.",
)  # fmt: skip
@click.option(
    "--optimize", type=click.Choice(["size", "speed"]),
    help="Of a microcontroller: least code, or fewest instructions, as counted by `edgert tune`.  [default: size]",
)  # fmt: skip
@click.option("--stack", type=BYTES, help="Of a microcontroller: bytes for the stack (default: the board's).")
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
    kv: str | None,
    calibrate: str | None,
    sparsity: float | None,
    hot: float,
    ram: int | None,
    code: str,
    dram: int | None,
    context: int | None,
    tune: int,
    emit: str,
    io: str,
    board: str | None,
    flash: int | None,
    optimize: str | None,
    stack: int | None,
    weights_in: str,
    golden: bool,
    debug_dump: str | None,
    as_json: bool,
) -> None:
    """Compile a MODEL into one file that runs with nothing but the small runner.

    MODEL is .onnx, .gguf, or a folder with a language model: model.onnx, tokenizer.json."""
    from edgert.cli.progress import progress_bar
    from edgert.interface.build import build, report_text
    from edgert.interface.show import show
    from edgert.placing import Placing
    from edgert.sparse import Sparsity

    if hot and sparsity is None:
        raise click.UsageError("--hot goes with --sparsity")
    sparse = None if sparsity is None else Sparsity(sparsity, hot, Path(calibrate) if calibrate else None)
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
            calibrate=None if sparse else calibrate,
            sparsity=sparse,
            code=code,
            io=io,
            placing=Placing(board, ram, flash, stack, weights_in, optimize),
            kv=None if kv is None else KV_CACHES[kv],
        )
    show(report, as_json, report_text)
