"""Write a text with a language model, or talk to it, and tell what that took."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import click

from edgert.budget import streamed_text
from edgert.errors import UsageError
from edgert.interface.language import Progress, artifact_of
from edgert.llm.cache import HeavyHitters, Policy, SinksAndWindow
from edgert.llm.chat_session import ChatSession
from edgert.llm.constrain import Constraint
from edgert.llm.encode_apart import EncodedApart
from edgert.llm.engine import CachedEngine
from edgert.llm.generate import Generation, Options
from edgert.llm.speculate import BestOf, Drafter
from edgert.llm.speculate_lookup import PromptLookup
from edgert.llm.speculate_recycling import TokenRecycling
from edgert.llm.statistics import Statistics
from edgert.llm.text_model import KV, QUERIES, TextModel, open_text_model
from edgert.memory_use import memory
from edgert.units import format_bytes


def _chains(vocab: int) -> TokenRecycling:
    """The likeliest successors in a row: in a tree the cache's rows are summed in another order than in plain decoding,
    and where two tokens nearly tie the text would differ. They are all that it learns, so no logits are needed."""
    return TokenRecycling(vocab, nodes=7, hits=(0.5,))


SPECULATION: dict[str, Callable[[int], Drafter | None]] = {  # from the size of the vocabulary
    "none": lambda vocab: None,
    "lookup": lambda vocab: PromptLookup(),
    "recycle": _chains,
    "both": lambda vocab: BestOf(PromptLookup(), _chains(vocab)),
}
EVICTION: dict[str, Callable[[int, int], Policy]] = {  # from the window and the sinks
    "oldest": lambda window, sinks: SinksAndWindow(sinks, window),
    "snapkv": HeavyHitters,
}
Write = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What to write, and how."""

    prompt: str | None = None  # the text to go on from; of a conversation, its first message
    lines: Iterable[str] | None = None  # a conversation's further messages: None for a single text
    system: str | None = None
    options: Options = field(default_factory=Options)
    json_schema: str | None = None
    regex: str | None = None
    context: int | None = None
    speculate: str = "none"
    kv: str = "f16"
    kv_window: int | None = None  # the latest tokens to keep once there are more (StreamingLLM)
    sinks: int = 4  # and so many of the first
    kv_evict: str = "oldest"  # which of the others go, of EVICTION
    dram: int | str | None = None  # a budget for the whole process


@dataclass(frozen=True)
class Turn:
    """One text: why it ended, tokens of the prompt that the cache held already, and its figures (Statistics)."""

    text: str
    finish: str | None
    reused: int
    statistics: dict[str, Any]


@dataclass(frozen=True)
class GenerateResult:
    """What `edgert generate` wrote. Bytes: the KV cache's, the arena's, and what the process holds (`memory`)."""

    name: str
    threads: int
    context: int
    turns: list[Turn]
    forgotten: int  # exchanges of the conversation that the context had no room for
    cache_bytes: int
    arena_bytes: int
    memory: dict[str, int | None]
    streamed: dict[str, Any] | None = None  # with a budget: the plan, and what was read


def generate(
    path: str,
    request: Request,
    threads: int | None = None,
    write: Write | None = None,
    say: Write = lambda text: None,
    progress: Progress | None = None,
) -> GenerateResult:
    """Run `request` on the language model at `path`, an artifact or a .gguf file. The text goes to `write` in pieces,
    what the user should know besides to `say`.

    Raises UsageError for options that exclude each other or an artifact that is no language model, DoesNotFit for a
    context or prompt that is too large, and what loading, compiling or generating raises.
    """
    _refuse(request)
    artifact = artifact_of(path, say, progress)
    # The user wrote the whole prompt of a single text, so control tokens written out in it are meant
    apart = EncodedApart(artifact, request.prompt or "") if request.lines is None else None
    kv = request.kv if request.kv_evict == "oldest" else QUERIES
    with open_text_model(artifact, threads, kv, request.dram, _only_likeliest(request)) as model:
        if apart is not None:
            ids = apart.ids()
            ids = model.tokenizer.encode(request.prompt or "", special=True) if ids is None else ids
            return _text(model, model.tokenizer.with_bos(ids), request, write)
        return _chat(model, request, request.lines or (), write, say)


def _refuse(request: Request) -> None:
    if request.lines is None and request.prompt is None:
        raise UsageError("give --prompt TEXT, --prompt-file FILE or --chat")
    if request.lines is None and request.system is not None:
        raise UsageError("--system is for --chat: a plain prompt is taken as it is")
    if request.kv_evict != "oldest" and (request.kv_window is None or request.kv != KV[0]):
        raise UsageError(f"--kv-evict {request.kv_evict} goes with --kv-window and --kv fp16")
    if request.lines is not None and request.kv_window is not None:
        raise UsageError("--kv-window is for plain prompts: a conversation forgets whole exchanges")
    if request.json_schema is not None and request.regex is not None:
        raise UsageError("give either --json-schema or --regex, not both")
    if request.speculate != "none" and request.options.sampling.temperature > 0:
        raise UsageError(f"--speculate {request.speculate} is for --temperature 0, where guesses can come true")


def _only_likeliest(request: Request) -> bool:
    """Whether nobody looks at logits but for the greatest."""
    constrained = request.json_schema is not None or request.regex is not None
    return request.options.sampling.takes_likeliest and not constrained


def _constraint(model: TextModel, request: Request) -> Constraint | None:
    if request.json_schema is None and request.regex is None:
        return None
    return Constraint(model.tokenizer, json_schema=request.json_schema, regex=request.regex)


def _text(model: TextModel, ids: list[int], request: Request, write: Write | None) -> GenerateResult:
    constraint = _constraint(model, request)
    model.tokenizer.release()
    # No more cache than this text can fill; a prompt that is too long is told as such
    needed = min(model.most, max(1, len(ids) + request.options.max_tokens))
    policy, context = None, request.context or needed
    if request.kv_window is not None:
        policy = EVICTION[request.kv_evict](request.kv_window, request.sinks)
        context = request.context or min(model.most, request.sinks + request.kv_window)
    with model.engine(context, policy) as engine:
        drafter = SPECULATION[request.speculate](engine.vocab)
        generation = Generation(engine, ids, model.tokenizer, request.options, constraint, drafter)
        pieces, finish = [], None
        for event in generation:
            pieces.append(event.text)
            finish = event.finish
            if write is not None and event.text:
                write(event.text)
        return _result(engine, [_turn("".join(pieces), finish, 0, generation.statistics)])


def _chat(model: TextModel, request: Request, lines: Iterable[str], write: Write | None, say: Write) -> GenerateResult:
    with model.engine(request.context) as engine, model.chat_template() as template:
        drafter = SPECULATION[request.speculate](engine.vocab)
        session = ChatSession(engine, model.tokenizer, template, request.options, request.system, drafter)
        turns: list[Turn] = []
        for message in (*([] if request.prompt is None else [request.prompt]),):
            turns.append(_say(session, message, model, request, write, say))
        for line in lines:
            if message := line.strip():
                turns.append(_say(session, message, model, request, write, say))
        return _result(engine, turns, session.forgotten)


def _say(
    session: ChatSession, message: str, model: TextModel, request: Request, write: Write | None, say: Write
) -> Turn:
    forgotten = session.forgotten
    text = session.say(message, write, _constraint(model, request))
    if write is not None:
        write("\n")
    if session.forgotten > forgotten:
        say(f"the context of {session.engine.context} tokens is full: the oldest messages are forgotten")
    return _turn(text, session.finish, session.reused, session.statistics)


def _turn(text: str, finish: str | None, reused: int, statistics: Statistics) -> Turn:
    return Turn(text, finish, reused, statistics.as_dict())


def _result(engine: CachedEngine, turns: list[Turn], forgotten: int = 0) -> GenerateResult:
    model = engine.model
    sizes = (engine.cache_bytes, model.arena_bytes, memory())
    streamed = None if model.memory is None else model.memory.report()
    return GenerateResult(model.manifest["name"], model.threads, engine.context, turns, forgotten, *sizes, streamed)


def figures(result: GenerateResult) -> str:
    """A few lines for people: tokens a second of all turns, the last one's first token, memory, guesses."""
    if not result.turns:
        return "nothing was said"
    total: dict[str, Any] = {
        key: sum(turn.statistics[key] for turn in result.turns) for key in result.turns[0].statistics
    }
    lines = []
    if total["prefill_seconds"]:
        rate = total["prompt_tokens"] / total["prefill_seconds"]
        lines.append(f"prompt {total['prompt_tokens']} tokens, {rate:.1f} tokens/s")
    first = result.turns[-1].statistics["first_token_seconds"]
    lines.append(f"first token after {1e3 * first:.0f} ms")
    after = total["tokens"] - len(result.turns)  # without those that the prompts' passes gave
    if total["decode_seconds"] and after:
        lines.append(f"then {after} tokens, {after / total['decode_seconds']:.1f} tokens/s")
    text = f"{result.name}, threads: {result.threads}: " + "; ".join(lines)
    peak = result.memory["peak_rss"] or 0
    text += f"\nmemory: peak {format_bytes(peak)}; KV cache {format_bytes(result.cache_bytes)} for {result.context}"
    text += f" tokens, arena {format_bytes(result.arena_bytes)}"
    if result.streamed is not None:
        text += f"\n{streamed_text(result.streamed)}"
    if total["drafted"]:
        share = 100 * total["accepted"] / total["drafted"]
        text += f"\nguesses: {total['accepted']} of {total['drafted']} right ({share:.0f} %)"
        text += f", {after / max(1, total['passes']):.2f} tokens a pass"
    return text


def terminal_writer() -> Write:
    """Writes text to stdout at once. What the terminal cannot show becomes "?", control sequences too: the model's
    text is nobody's to command a terminal with."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    shown = sys.stdout.isatty()
    harmless = {code: "?" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
    return lambda text: click.echo(text.translate(harmless) if shown else text, nl=False)
