"""Options and argument types that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgert.interface.pairs import parse_dim, parse_input, parse_shape
from edgert.units import parse_bytes

Command = TypeVar("Command", bound=Callable[..., Any])


class Parsed(click.ParamType):
    """A click type made of a plain function from text to value that raises ValueError with what is wrong."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`value` parsed, or click's own usage error."""
        try:
            return self.parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


SHAPE = Parsed("NAME=DIMS", parse_shape)
DIM = Parsed("NAME=MIN..MAX", parse_dim)
INPUT = Parsed("NAME=FILE", parse_input)
BYTES = Parsed("BYTES", parse_bytes)
DRAM = Parsed("BYTES|auto", lambda text: text if text == "auto" else parse_bytes(text))
FILE = click.Path(exists=True, dir_okay=False)
MODEL = click.Path(exists=True)  # a file, or a folder with one and what belongs to it

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
threads_option = click.option("--threads", type=click.IntRange(min=1), help="Threads to run with (default: all cores).")
target_option = click.option("--target", default="host", show_default=True, help="A name from `edgert targets`.")
KV_CACHES = {
    "fp16": "f16",
    "int8": "i8",
    "int4": "i4",
    "int2": "i2",
}  # as users name them -> as the artifact's programs are named
kv_option = click.option(
    "--kv",
    type=click.Choice(list(KV_CACHES)),
    default="fp16",
    show_default=True,
    callback=lambda context, option, value: KV_CACHES[value],
    help="How the cache keeps keys and values; of int4 and int2 the latest rows stay in fp16.",
)
device_option = click.option(
    "--device",
    default="local",
    show_default=True,
    help="A URI from `edgert devices`, ssh://user@host/folder or adb://serial/folder.",
)


def _choose_profile(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    from flashload.named_profiles import choose

    if name is not None:
        choose(name)
    return name


flash_profile_option = click.option(
    "--flash-profile",
    metavar="NAME",
    expose_value=False,
    callback=_choose_profile,
    help="Which flash --dram plans for (`edgert devices --profile NAME`), or a file NAME.json.",
)


def dram_option(command: Command) -> Command:
    """Add --dram and --flash-profile."""
    dram = click.option(
        "--dram",
        type=DRAM,
        metavar="BYTES|auto",
        help="Memory for the whole process, as in 64M: weights that have no room are read while the model runs.",
    )
    return dram(flash_profile_option(command))


def shape_options(command: Command) -> Command:
    """Add --shape and --dim."""
    shape = click.option(
        "--shape", "shapes", type=SHAPE, multiple=True, help="Fix an input's shape, as in x=1x3x224x224; repeatable."
    )
    dim = click.option(
        "--dim", "dims", type=DIM, multiple=True, help="Keep a dimension symbolic, as in seq=1..512; repeatable."
    )
    return shape(dim(command))
