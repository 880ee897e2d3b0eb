"""What `edgert compile --sparsity` was told: which neurons a token may do without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgert.errors import EdgertError, UsageError
from edgert.llm.perplexity import windows

if TYPE_CHECKING:
    from edgert.llm.tokenizer import Tokenizer

WINDOW, MOST = 512, 9  # tokens of a window of text; of so many windows a third is measured on
NEEDED = "--sparsity takes its thresholds from a text: give --calibrate FILE.txt"


@dataclass(frozen=True)
class Sparsity:
    """share: of neurons that are left out; hot: of those that always count; text: the file to take thresholds from."""

    share: float
    hot: float = 0.0
    text: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or not 0 <= self.hot <= 1 - self.share:
            raise UsageError(f"--sparsity {self.share:g} --hot {self.hot:g}: shares of neurons, 1 at most together")
        if self.text is None and self.share:
            raise UsageError(NEEDED)

    def windows(self, tokenizer: Tokenizer, context: int) -> Sequence[Sequence[int]]:
        """The text's first tokens, cut. Raises UsageError for too short a text, EdgertError for what is not UTF-8."""
        if self.text is None:
            raise UsageError(NEEDED)
        try:
            text = self.text.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise EdgertError(f"{self.text}: cannot be read as text: {error}") from None
        bos = tokenizer.bos if tokenizer.config["add_bos"] else None
        return windows(tokenizer.encode(text[: 64 * WINDOW * MOST], bos=True), min(WINDOW, context), bos)[:MOST]
