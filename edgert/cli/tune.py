"""`edgert tune`: the fastest tile sizes of a model's kernels, measured where it will run."""

import click

from edgert.cli.options import FILE, device_option, json_option, shape_options


@click.command()
@click.argument("model", metavar="MODEL", type=FILE)
@click.option("--target", default="host", show_default=True, help="The target to tune for; see `edgert targets`.")
@click.option("--tracker", metavar="HOST:PORT", help="A TVM RPC tracker, whose devices share the work.")
@click.option("--key", help="The kind of its devices.  [default: the target's name]")
@click.option("--trials", type=click.IntRange(min=1), default=16, show_default=True, help="Tilings of each kernel.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="The file of records.  [default: the user's own]")
@shape_options
@device_option
@json_option
def command(
    model: str,
    target: str,
    tracker: str | None,
    key: str | None,
    trials: int,
    output: str | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    dims: tuple[tuple[str, tuple[int, int]], ...],
    device: str,
    as_json: bool,
) -> None:
    """Measure tile sizes on a device, or on all devices of a farm at once; `edgert compile` then takes the best.

    Devices of a farm run `python -m edgert.tuning.server --tracker HOST:PORT --key TARGET`; one that vanishes loses
    nothing that was measured."""
    from edgert.cli.progress import progress_bar
    from edgert.interface.show import show
    from edgert.tuning.tune import tune, tuned_text

    with progress_bar("tune") as progress:
        result = tune(model, target, device, tracker, key, trials, output, dict(shapes), dict(dims), progress)
    show(result, as_json, tuned_text)
