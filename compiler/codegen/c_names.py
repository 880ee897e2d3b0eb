"""Names of models and tensors as C identifiers."""

from __future__ import annotations

import re
from collections.abc import Iterable

_KEYWORDS = frozenset(
    [
        "alignas",
        "alignof",
        "and",
        "asm",
        "auto",
        "bool",
        "break",
        "case",
        "catch",
        "char",
        "class",
        "const",
        "constexpr",
        "continue",
        "decltype",
        "default",
        "delete",
        "do",
        "double",
        "else",
        "enum",
        "explicit",
        "export",
        "extern",
        "false",
        "float",
        "for",
        "friend",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "mutable",
        "namespace",
        "new",
        "not",
        "nullptr",
        "operator",
        "or",
        "private",
        "protected",
        "public",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "template",
        "this",
        "throw",
        "true",
        "try",
        "typedef",
        "typeid",
        "typename",
        "union",
        "unsigned",
        "using",
        "virtual",
        "void",
        "volatile",
        "while",
        "xor",
    ]
)


def identifier(name: str) -> str:
    """`name` as an identifier of C and C++: letters, digits, single underscores; `x` in front of what may not begin."""
    text = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_") or "x"
    return f"x_{text}" if text[0].isdigit() or text in _KEYWORDS else text


def identifiers(names: Iterable[str]) -> list[str]:
    """The same of several names, kept apart by numbers where they would be equal."""
    made: list[str] = []
    for name in names:
        text, number = identifier(name), 1
        while text in made:
            number += 1
            text = f"{identifier(name)}_{number}"
        made.append(text)
    return made
