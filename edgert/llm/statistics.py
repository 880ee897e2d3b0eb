"""What a generation took: tokens, seconds, and what speculation brought."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Statistics:
    """Counts and wall-clock seconds of one generation; filled in while it runs."""

    prompt_tokens: int = 0
    tokens: int = 0  # generated, the end token included
    passes: int = 0  # of the model after the prompt
    prefill_seconds: float = 0.0
    first_token_seconds: float = 0.0  # from the start to the first token
    decode_seconds: float = 0.0  # after the first token, drafting and sampling included
    drafted: int = 0  # guesses checked
    accepted: int = 0  # guesses that were right

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens per second; 0 before there are any."""
        return self.prompt_tokens / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_rate(self) -> float:
        """Tokens per second after the first, which the prompt's pass gave."""
        return (self.tokens - 1) / self.decode_seconds if self.decode_seconds and self.tokens else 0.0

    @property
    def acceptance(self) -> float:
        """Share of guesses that were right."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def tokens_per_pass(self) -> float:
        """Tokens that a pass of the model gave, 1 without speculation."""
        return (self.tokens - 1) / self.passes if self.passes else 0.0

    def as_dict(self) -> dict[str, Any]:
        """All of it, rates too, for --json."""
        names = ("prefill_rate", "decode_rate", "acceptance", "tokens_per_pass")
        return asdict(self) | {name: getattr(self, name) for name in names}
