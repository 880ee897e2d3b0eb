"""How byte-level BPE tokenizers cut text into words before merging, as data: the regular expressions by GGUF name.

GGUF's `tokenizer.ggml.pre` names a rule that the model was trained with; each expression is applied in turn to the
pieces that the one before it left, and what no expression matches is a piece of its own. The expressions are those of
the models' own published tokenizers."""

from dataclasses import dataclass

from edgert.errors import UnsupportedModel

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_DIGIT = r"\p{N}"
# Contractions are matched in either case; \p{N}{1,3} (Llama 3) or single digits (Qwen 2) is all that differs.
_CASELESS = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class PreTokenizer:
    """The expressions of one rule, in order; `whole_words`: a word that is itself a token is not merged from bytes."""

    expressions: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False  # where the file does not say


_PLAIN = PreTokenizer((_GPT2,))
_DIGITS_APART = PreTokenizer((_DIGIT, _GPT2))
_LLAMA3 = PreTokenizer((_CASELESS % r"\p{N}{1,3}",), whole_words=True, add_bos=True)
_QWEN2 = PreTokenizer((_CASELESS % _DIGIT,))

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
    "gpt-2": _PLAIN,
    "phi-2": _PLAIN,
    "olmo": _PLAIN,
    "smollm": _DIGITS_APART,
    "starcoder": _DIGITS_APART,
    "refact": _DIGITS_APART,
    "command-r": _DIGITS_APART,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "lfm2": _LLAMA3,
    "dbrx": PreTokenizer((_CASELESS % r"\p{N}{1,3}",)),
    "smaug-bpe": PreTokenizer((_CASELESS % r"\p{N}{1,3}",)),
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "stablelm2": _QWEN2,
}


def pre_tokenizer(name: str) -> PreTokenizer:
    """The rule that GGUF calls `name`. Raises UnsupportedModel, with the known names, for another."""
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        known = ", ".join(sorted(PRE_TOKENIZERS))
        raise UnsupportedModel(f"the tokenizer's pre-tokenizer {name!r} is not known (known: {known})")
    return PRE_TOKENIZERS[name]
