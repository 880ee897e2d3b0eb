"""A language model's artifact, open: the compiled decoder and the tokenizer that travels with it."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, Self

from edgert.errors import EdgertError, NoProgram, UsageError
from edgert.llm.cache import Policy
from edgert.llm.encode_apart import TOKENIZER
from edgert.llm.engine import CachedEngine, decoder_facts
from edgert.llm.tokenizer import Tokenizer
from edgert.runner import Model, load

if TYPE_CHECKING:
    from edgert.llm.chat import ChatTemplate

CONFIG, TEXTS = "tokenizer.config.json", "tokenizer.texts"  # members of the artifact, beside TOKENIZER
QUERIES = "f16q"  # the program whose cache keeps the latest queries, for HeavyHitters
LIKELIEST = "likeliest"  # the program that gives no logits but the likeliest tokens; its cache is KV[0]
KV = ("f16", "i8", "i4", "i2")  # an artifact's programs by how they store keys and values; the first is the main one


class TextModel:
    """The decoder before it has a cache, so that a prompt's tokens can be counted first. A context manager."""

    def __init__(self, model: Model) -> None:
        """Raises UsageError for an artifact that is no language model, EdgertError for one without its tokenizer."""
        facts = decoder_facts(model)
        self.model, self.most = model, int(facts["context"])
        members = model.artifact.spec.members
        if missing := {TOKENIZER, CONFIG, TEXTS} - members.keys():
            raise EdgertError(f"{model.artifact.path} has no {min(missing)}: compile the .gguf file again")
        config: dict[str, Any] = json.loads(bytes(model.artifact.member(CONFIG)))
        self.tokenizer = Tokenizer(model.artifact.member(TOKENIZER), config, model.artifact.member(TEXTS))
        model.artifact.leave()  # the texts were read through once

    def engine(self, context: int | None = None, policy: Policy | None = None) -> CachedEngine:
        """An engine with room for `context` tokens (default: the artifact's most); `policy`: what it forgets then.

        Raises what CachedEngine raises."""
        return CachedEngine(self.model, context, policy)

    def chat_template(self) -> ChatTemplate:
        """The model's own. Raises UsageError where it has none."""
        from edgert.llm.chat import ChatTemplate

        def text(token: int | None) -> str:
            return "" if token is None else self.tokenizer.token_bytes(token, special=True).decode("utf-8", "replace")

        return ChatTemplate(
            self.tokenizer.config.get("chat_template"), text(self.tokenizer.bos), text(self.tokenizer.eos)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.model.close()


def open_text_model(
    path: str | os.PathLike[str], threads: int | None = None, kv: str = KV[0], dram: int | str | None = None,
    only_likeliest: bool = False,
) -> TextModel:  # fmt: skip
    """The language model at `path`, an artifact; `kv`: how the cache stores keys and values, one of KV; `dram`: a
    budget for the whole process, as for edgert.load. only_likeliest: the engine may tell the likeliest tokens in place
    of logits, which is faster, where the artifact can.

    Raises what edgert.load and TextModel raise, UsageError where the artifact has no such cache."""
    if only_likeliest and kv == KV[0]:
        with contextlib.suppress(NoProgram):
            return TextModel(load(path, threads, dram, LIKELIEST))
    try:
        return TextModel(load(path, threads, dram, None if kv == KV[0] else kv))
    except UsageError as error:
        if kv == QUERIES and repr(QUERIES) in str(error):
            raise UsageError(
                f"{path} keeps no queries: only .gguf models whose layers all see the whole text do"
            ) from None
        raise
