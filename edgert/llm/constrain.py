"""Text that must follow a JSON schema or a regular expression: which tokens may come next (llguidance)."""

import json
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgert.errors import EdgertError, UsageError
from edgert.llm.tokenizer import Tokenizer

# Building the trie of all tokens takes a while (0.4 s for 49,152, 3 s for 262,144), so one for each tokenizer.
_TRIES: "weakref.WeakKeyDictionary[Tokenizer, Any]" = weakref.WeakKeyDictionary()

# Small models like to go on with spaces between the parts of a JSON text; bounded, the text comes to an end.
_JSON: Any = {"whitespace_pattern": r"[ \n\t]{0,32}"}


class _Vocabulary:
    """What llguidance asks of a tokenizer: every token's bytes, the special ones, and a way to encode."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.tokens = [tokenizer.token_bytes(i, special=True) for i in range(tokenizer.vocab)]
        self.special_token_ids = sorted(tokenizer.control_ids)
        self.bos_token_id = tokenizer.bos
        self.eos_token_id = min(tokenizer.end_ids) if tokenizer.eos is None else tokenizer.eos

    def __call__(self, text: str | bytes) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode("utf-8", "ignore"))


class Constraint:
    """The state of one text against one grammar. Give exactly one of `json_schema` (dict or JSON text) and `regex`.

    An end token is allowed where the text is complete. Raises UsageError for a schema or expression that llguidance
    does not take (or that passes its limits on size), EdgertError when it is not installed."""

    def __init__(
        self, tokenizer: Tokenizer, *, json_schema: Mapping[str, Any] | str | None = None, regex: str | None = None
    ) -> None:
        if (json_schema is None) == (regex is None):
            raise UsageError("give either a JSON schema or a regular expression, not both or neither")
        try:
            import llguidance
        except ImportError as error:
            raise EdgertError("constraints need the llguidance package: pip install 'edgert[constrain]'") from error
        if not tokenizer.end_ids:
            raise EdgertError("the model has no token that ends a text, so no constraint can be completed")
        if tokenizer not in _TRIES:
            wrapper = llguidance.TokenizerWrapper(_Vocabulary(tokenizer))
            _TRIES[tokenizer] = llguidance.LLTokenizer(wrapper, eos_token=sorted(tokenizer.end_ids))
        try:
            if regex is not None:
                grammar = llguidance.LLMatcher.grammar_from_regex(regex)
            else:
                schema = json_schema if isinstance(json_schema, str) else json.dumps(json_schema)
                grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, defaults=_JSON)
            self._matcher = llguidance.LLMatcher(_TRIES[tokenizer], grammar, log_level=0)
        except (ValueError, TypeError) as error:
            raise UsageError(f"the constraint is not valid: {_short(error)}") from error
        if self._matcher.is_error():
            raise UsageError(f"the constraint is not valid: {_short(self._matcher.get_error())}")

    def mask(self, logits: np.ndarray) -> np.ndarray:
        """A copy of logits [vocab] with -inf where the token may not come next."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise EdgertError(f"the constraint cannot go on: {_short(self._matcher.get_error())}")
        allowed = np.unpackbits(bits, bitorder="little")[: len(logits)].astype(bool)
        masked = np.full_like(logits, -np.inf)  # also what lies beyond the vocabulary, where logits are padded
        np.copyto(masked[: len(allowed)], logits[: len(allowed)], where=allowed)
        return masked

    def advance(self, token: int) -> None:
        """Take `token` as the next. Raises EdgertError if the grammar does not allow it."""
        if self._matcher.consume_tokens([token]) is False or self._matcher.is_error():
            raise EdgertError(f"token {token} does not follow the constraint")

    @property
    def finished(self) -> bool:
        """Whether nothing more may follow (an end token came, or the text can only be complete)."""
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """Whether the text so far fulfils the constraint."""
        return bool(self._matcher.is_accepting())


def _short(error: object) -> str:
    return " ".join(str(error).split())[:300]
