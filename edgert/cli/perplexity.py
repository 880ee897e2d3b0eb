"""`edgert perplexity`: how well a language model predicts a text."""

import click

from edgert.cli.options import FILE, dram_option, json_option, kv_option, threads_option


@click.command()
@click.argument("path", metavar="ARTIFACT|MODEL.gguf", type=FILE)
@click.option("--text", required=True, type=FILE, help="The text, UTF-8.")
@click.option("--window", type=click.IntRange(min=3), default=512, show_default=True, help="Tokens in a window.")
@click.option("--windows", type=click.IntRange(min=1), help="Only so many, the first ones.")
@click.option("--all", "every", is_flag=True, help="Score every token of a window, not only its second half.")
@kv_option
@threads_option
@dram_option
@json_option
def command(
    path: str, text: str, window: int, windows: int | None, every: bool, kv: str, threads: int | None,
    dram: int | str | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure the perplexity of a language model (an ARTIFACT, or a GGUF file that is compiled first) on a text.

    Windows, beginning-of-text tokens and what is scored are as in llama.cpp's perplexity tool, so figures compare.
    """
    from edgert.cli.progress import progress_bar
    from edgert.interface.perplexity import perplexity, perplexity_text
    from edgert.interface.show import show

    def say(message: str) -> None:
        click.echo(f"edgert: {message}", err=True)

    with progress_bar("perplexity") as progress:
        result = perplexity(path, text, window, every, windows, threads, kv, say, progress, dram)
    show(result, as_json, perplexity_text)
