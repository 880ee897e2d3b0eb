"""`edgert bench`: how long an artifact takes, also beside other runtimes."""

import click

from edgert.cli.options import FILE, device_option, dram_option, json_option, shape_options, threads_option


@click.command()
@click.argument("path", metavar="ARTIFACT|MODEL", type=FILE)
@click.option(
    "--against", default="", metavar="NAME,...", help="Also time onnxruntime, openvino (pip install 'edgert[bench]')."
)
@click.option("--model", type=FILE, help="The model an artifact was made from, for --against (default: beside it).")
@click.option(
    "--seconds", type=click.FloatRange(min=0.01), default=2.0, show_default=True, help="Time for each runtime."
)
@click.option("--profile", is_flag=True, help="On a simulator: the instructions of each step.")
@shape_options
@threads_option
@dram_option
@device_option
@json_option
def command(
    path: str,
    against: str,
    model: str | None,
    seconds: float,
    profile: bool,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    dims: tuple[tuple[str, tuple[int, int]], ...],
    threads: int | None,
    dram: int | str | None,
    device: str,
    as_json: bool,
) -> None:
    """Time an artifact, and other runtimes on the same model, inputs and number of threads, taking turns."""
    from edgert.interface.bench import bench
    from edgert.interface.show import bench_text, show

    if device.startswith("sim://"):
        from edgert.interface.counted import count, counted_text

        show(count(path, device, profile, dict(shapes)), as_json, counted_text)
        return
    peers = [name.strip() for name in against.split(",") if name.strip()]
    result = bench(path, peers, model, seconds, dict(shapes), dict(dims), threads, device, dram)
    show(result, as_json, bench_text)
