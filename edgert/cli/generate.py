"""`edgert generate`: write a text with a language model, or talk to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from edgert.cli.options import FILE, dram_option, json_option, kv_option, threads_option

NUMBER = click.FloatRange(min=0)
SHARE = click.FloatRange(min=0, max=1)


@click.command()
@click.argument("path", metavar="ARTIFACT|MODEL.gguf", type=FILE)
@click.option("--prompt", metavar="TEXT", help="The text to go on from; with --chat the first message.")
@click.option("--prompt-file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), help="The prompt, UTF-8.")
@click.option("--chat", is_flag=True, help="A conversation: each line of standard input is a message.")
@click.option("--system", metavar="TEXT", help="With --chat: what the model is told first.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Most tokens to write.")
@click.option("--temperature", type=NUMBER, default=0.0, show_default=True, help="0: always the likeliest token.")
@click.option(
    "--top-k", type=click.IntRange(min=0), default=40, show_default=True, help="Draw from the k best; 0: all."
)
@click.option("--top-p", type=SHARE, default=0.95, show_default=True, help="Of them the fewest with this probability.")
@click.option("--min-p", type=SHARE, default=0.05, show_default=True, help="Of them none this much below the best.")
@click.option("--repeat-penalty", type=NUMBER, default=1.0, show_default=True, help="Above 1: fewer repetitions.")
@click.option("--seed", type=click.IntRange(min=0), help="Draw the same tokens again (default: others each time).")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable.")
@click.option("--json-schema", type=FILE, help="Write JSON that fits the schema in this file.")
@click.option("--regex", metavar="PATTERN", help="Write text that matches this expression.")
@click.option("--context", type=click.IntRange(min=1), help="Tokens to keep room for (default: as needed).")
@click.option(
    "--speculate",
    type=click.Choice(["none", "lookup", "recycle", "both"]),
    default="none",
    show_default=True,
    help="Check guesses: the same text in fewer passes.",
)
@kv_option
@click.option(
    "--kv-window",
    type=click.IntRange(min=1),
    help="Forget all but so many latest tokens, and the sinks, once they are that many: a text without end.",
)
@click.option(
    "--kv-evict", type=click.Choice(["oldest", "snapkv"]), default="oldest", show_default=True,
    help="With --kv-window: what goes then. snapkv: what the latest tokens attend to least.",
)  # fmt: skip
@click.option(
    "--sinks", type=click.IntRange(min=0), default=4, show_default=True, help="With --kv-window: first tokens to keep."
)
@threads_option
@dram_option
@json_option
def command(
    path: str,
    prompt: str | None,
    prompt_file: str | None,
    chat: bool,
    json_schema: str | None,
    as_json: bool,
    threads: int | None,
    **given: Any,
) -> None:
    """Write a text with a language model: an ARTIFACT, or a GGUF file that is compiled first, once.

    The text goes to standard output as it comes, figures to standard error.
    """
    from edgert.cli.progress import progress_bar
    from edgert.errors import UsageError
    from edgert.interface.generate import Request, figures, generate, terminal_writer
    from edgert.interface.show import print_json
    from edgert.interface.texts import read_text
    from edgert.llm.generate import Options
    from edgert.llm.sampling import SamplingOptions

    if prompt is not None and prompt_file is not None:
        raise UsageError("give either --prompt or --prompt-file, not both")
    if chat and prompt_file == "-":
        raise UsageError("--chat reads its messages from standard input, so --prompt-file cannot be -")
    names = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed")
    sampling = SamplingOptions(**{name: given[name] for name in names})
    request = Request(
        prompt=prompt if prompt_file is None else read_text(prompt_file),
        lines=_lines() if chat else None,
        system=given["system"],
        options=Options(max_tokens=given["max_tokens"], sampling=sampling, stop=given["stop"]),
        json_schema=None if json_schema is None else read_text(json_schema),
        regex=given["regex"],
        context=given["context"],
        speculate=given["speculate"],
        kv=given["kv"],
        dram=given["dram"],
        kv_window=given["kv_window"],
        kv_evict=given["kv_evict"],
        sinks=given["sinks"],
    )
    write = None if as_json else terminal_writer()

    def say(text: str) -> None:
        click.echo(f"edgert: {text}", err=True)

    with progress_bar("compile") as progress:
        result = generate(path, request, threads, write, say, progress)
    if as_json:
        print_json(result)
        return
    if not chat:
        click.echo()
    click.echo(figures(result), err=True)


def _lines() -> Iterator[str]:
    """The lines of standard input, with a prompt where somebody types them."""
    while True:
        if sys.stdin.isatty():
            click.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        yield line
