"""`edgert quantize`: a model with smaller numbers in it, and what that cost."""

import click

from edgert.cli.options import FILE, Parsed, json_option
from edgert.interface.pairs import parse_percent

PERCENT = Parsed("PERCENT", parse_percent)
SOURCE = click.Path(exists=True)


@click.command()
@click.argument("model", metavar="M.onnx", type=FILE)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), metavar="FILE", help="What to write.")
@click.option("--scheme", default="int8", show_default=True, metavar="NAME", help="int8, int4, auto, ...")
@click.option("--calibrate", type=SOURCE, metavar="DATA", help="An .npz file, or a folder with one file a sample.")
@click.option("--evaluate", type=SOURCE, metavar="DATA", help="Samples to measure on (default: those of --calibrate).")
@click.option("--labels", type=FILE, metavar="FILE", help="Class numbers of the samples measured on (.npy or .npz).")
@click.option("--max-drop", type=PERCENT, help="Most to lose of top-1 accuracy (of the cosine, without labels): 0.5%.")
@click.option("--min-sqnr", type=float, metavar="DB", help="Least signal to noise ratio at the output.")
@click.option("--report", type=click.Path(dir_okay=False), metavar="R.html", help="Write what each layer lost.")
@click.option("--alone/--no-alone", default=None, help="Measure each layer's harm alone (default: up to 160 layers).")
@click.option("--check", is_flag=True, help="Compile the result and compare a few answers with ONNX Runtime's.")
@click.option("--observer", default="auto", show_default=True, metavar="NAME", help="How ranges are found.")
@click.option("--percentile", type=float, default=99.99, show_default=True, help="For the observer of that name.")
@click.option("--keep", multiple=True, metavar="NODE", help="Leave this node in float32; repeatable.")
@click.option("--equalize", is_flag=True, help="Cross-layer equalisation first.")
@click.option("--bias-correction/--no-bias-correction", default=None, help="Take the mean error out of biases.")
@click.option("--smooth", type=click.FloatRange(0, 1), metavar="ALPHA", help="SmoothQuant first, 0.5 say.")
@click.option("--gptq", "rounding", flag_value="gptq", default=None, help="Round 4-bit weights as GPTQ does.")
@click.option("--nearest", "rounding", flag_value="nearest", help="Round 4-bit weights to the nearest, samples or not.")
@click.option("--awq", "rounding", flag_value="awq", help="Scale and round 4-bit weights as AWQ does.")
@click.option("--group", type=click.IntRange(min=1), metavar="N", help="Weights that share a scale (4-bit schemes).")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Use at most so many calibration samples.")
@click.option("--seed", type=int, default=0, show_default=True, help="For what is drawn at random.")
@json_option
def command(
    model: str,
    output: str,
    scheme: str,
    calibrate: str | None,
    evaluate: str | None,
    labels: str | None,
    max_drop: float | None,
    min_sqnr: float | None,
    report: str | None,
    alone: bool | None,
    check: bool,
    observer: str,
    percentile: float,
    keep: tuple[str, ...],
    equalize: bool,
    bias_correction: bool | None,
    smooth: float | None,
    rounding: str | None,
    group: int | None,
    samples: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Quantize a model (.onnx) to standard ONNX that ONNX Runtime and `edgert compile` take."""
    from edgert.cli.errors import missing_extra
    from edgert.cli.progress import progress_bar
    from edgert.interface.quantize import Request, quantize, result_text
    from edgert.interface.show import show

    options = {
        "observer": observer,
        "percentile": percentile,
        "keep": frozenset(keep),
        "equalize": equalize,
        "bias_correction": bias_correction,
        "smooth": smooth,
        "rounding": rounding,
        "group": group,
        "limit": samples,
        "seed": seed,
    }
    request = Request(
        model=model,
        output=output,
        scheme=scheme,
        calibrate=calibrate,
        evaluate=evaluate,
        labels=labels,
        max_drop=max_drop,
        min_sqnr=min_sqnr,
        layers=as_json and (calibrate or evaluate) is not None,
        alone=alone,
        check=check,
        report=report,
        options=options,
    )
    try:
        with progress_bar("quantize") as progress:
            result = quantize(request, progress)
    except ModuleNotFoundError as error:
        raise missing_extra(error, "quantizing a model", "compiler") from None
    show(result, as_json, result_text)
