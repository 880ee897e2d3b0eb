"""`edgert serve`: an OpenAI-compatible HTTP server."""

import json
from typing import Any

import click

from edgert.cli.errors import missing_extra
from edgert.cli.options import BYTES, FILE, dram_option, json_option, kv_option, threads_option
from edgert.units import format_bytes


@click.command()
@click.argument("path", metavar="ARTIFACT", type=FILE)
@click.option("--host", default="127.0.0.1", show_default=True, help="Another than this machine's own needs --api-key.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option(
    "--api-key",
    envvar="EDGERT_API_KEY",
    show_envvar=True,
    metavar="KEY",
    help="What clients must send as bearer token.",
)
@click.option("--context", type=click.IntRange(min=2), help="Most tokens of a text (default: the artifact's most).")
@threads_option
@dram_option
@kv_option
@click.option(
    "--max-queue", type=click.IntRange(min=0), default=16, show_default=True, metavar="N",
    help="Requests that may wait; more are answered 429.",
)  # fmt: skip
@click.option("--max-body", type=BYTES, default="4M", show_default=True, help="Most bytes of a request.")
@click.option(
    "--prefix-pool", type=BYTES, default="0", show_default=True,
    help="Most memory for keys and values of earlier texts, so that others which begin alike need not run them again.",
)  # fmt: skip
@json_option
def command(
    path: str,
    host: str,
    port: int,
    api_key: str | None,
    context: int | None,
    threads: int | None,
    dram: int | str | None,
    kv: str,
    max_queue: int,
    max_body: int,
    prefix_pool: int,
    as_json: bool,
) -> None:
    """Serve a language model over HTTP, as OpenAI's clients expect it: chat, completions, models.

    Requests run one after the other on one cache; what the next prompt shares with it, or with
    an earlier one whose rows the prefix pool has, is not run again. A request with
    a seed or temperature 0 gives the same text each time.
    """
    try:
        from edgert.serve.run import Settings, serve
    except ModuleNotFoundError as error:
        raise missing_extra(error, "edgert serve", "serve") from error

    def ready(facts: dict[str, Any]) -> None:
        click.echo(json.dumps(facts) if as_json else _text(facts))

    settings = Settings(host, port, api_key, context, threads, kv, max_queue, max_body, dram, prefix_pool)
    serve(path, settings, ready)


def _text(facts: dict[str, Any]) -> str:
    cache = format_bytes(facts["cache_bytes"])
    return (
        f"serving {facts['model']} at {facts['url']} (context {facts['context']} tokens, "
        f"{facts['kv']} KV cache {cache}, "
        f"threads {facts['threads']}); Ctrl-C ends it"
    )
