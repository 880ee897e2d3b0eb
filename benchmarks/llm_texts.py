"""The texts that perplexity is measured on: English that comes with packages everybody can get."""

from __future__ import annotations

from functools import cache
from pydoc_data import topics

from compiler.zoo.fetch import fetch_wheel, read_members
from compiler.zoo.model import Wheel

# Lee, Pincombe & Welsh's 300 background news items, as gensim ships them
GENSIM = Wheel(
    project="gensim",
    version="4.4.0",
    sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
    nbytes=27809988,
    platform="manylinux_2_28_x86_64",
)
LEE = "gensim/test/test_data/lee_background.cor"


@cache
def texts() -> dict[str, str]:
    """The texts by name, whole. Raises EdgertError where gensim's cannot be had."""
    lee = read_members(fetch_wheel(GENSIM), (LEE,))[LEE].decode("latin-1")
    return {"Lee news": lee.strip(), "Python's topics": "\n".join(topics.topics.values())}


def summarising_prompts(count: int) -> list[str]:
    """Chat messages that ask for summaries of the first `count` news items of a few sentences."""
    items = [line for line in texts()["Lee news"].splitlines() if 500 < len(line) < 1400]
    return [f"Summarize the following text in its own words, sentence by sentence:\n\n{item}" for item in items[:count]]
