"""The child that renders chat templates: `python -I chat_render.py`, one JSON request a line, one JSON answer a line.

A template is a program out of a file that anyone may have made. Jinja's sandbox keeps it from the interpreter's
insides; nothing in Jinja keeps it from taking for ever or all memory, so that is left to the kernel: address space
and processor time of this process are limited, and whoever asks has a clock. It imports nothing of edgert, and limits
itself before it reads a template."""

import datetime
import json
import resource
import sys
from collections.abc import Callable
from typing import Any

MEMORY = 256 << 20  # bytes of address space; the interpreter with Jinja takes about 60 MB
PROCESSOR = 2  # seconds for one request
MOST_RESULT = 4 << 20  # characters
MOST_TEMPLATES = 8  # compiled ones kept


class TemplateError(Exception):
    """What a template says with raise_exception()."""


def environment() -> Any:
    """Jinja's sandbox as Hugging Face's templates expect it (trimmed blocks, break and continue, tojson, ...)."""
    from jinja2 import ext, nodes, sandbox

    class Generation(ext.Extension):
        """{% generation %} ... {% endgeneration %}: marks the model's part for training; here its content alone."""

        tags = {"generation"}  # noqa: RUF012 - as the base class has it

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: object) -> None:
        raise TemplateError(str(message))

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        allowed = {name: options[name] for name in ("separators", "sort_keys") if name in options}
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **allowed)

    class Sandbox(sandbox.ImmutableSandboxedEnvironment):
        """Jinja's own says nothing when a forbidden attribute is only printed; a template that tries is refused."""

        def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
            raise sandbox.SecurityError(f"{attribute!r} of {type(obj).__name__} may not be used")

    env = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[ext.loopcontrols, Generation])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(str(form))
    return env


def render(template: Any, values: dict[str, Any]) -> str:
    """The rendered text. Raises TemplateError when it grows beyond the bound."""
    parts, size = [], 0
    for part in template.generate(**values):
        parts.append(part)
        size += len(part)
        if size > MOST_RESULT:
            raise TemplateError(f"the text is longer than {MOST_RESULT} characters")
    return "".join(parts)


def answer(request: str, compiled: Callable[[str], Any]) -> dict[str, str]:
    """{"text": ...} or {"error": ...} for one request {"template": ..., "values": {...}}."""
    try:
        asked = json.loads(request)
        return {"text": render(compiled(asked["template"]), asked["values"])}
    except MemoryError:
        return {"error": "it takes too much memory"}
    except RecursionError:
        return {"error": "it calls itself without end"}
    except Exception as error:  # whatever a template can bring about is its error, and is told
        return {"error": f"{type(error).__name__}: {str(error)[:300]}"}


def main() -> None:
    """Answer requests until the input ends."""
    import functools

    env = environment()
    compiled = functools.lru_cache(MOST_TEMPLATES)(env.from_string)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + PROCESSOR, hard))
        sys.stdout.write(json.dumps(answer(line, compiled)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
