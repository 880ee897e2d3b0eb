"""Tokenize one text in a process of its own, while this one loads the model: the tokenizer library takes a third of the
memory that a small language model needs, and much of the time to its first token.

Run as a script it is that process: it reads the artifact's tokenizer and the text on stdin, and prints the ids. Of a
vocabulary of byte pairs it takes only what can arise in this text: all of it would take most of the time."""

import json
import os
import sys
from contextlib import suppress
from typing import Any

TOKENIZER = "tokenizer.json"
MOST = 200_000  # pieces of a text that are looked up; for more the whole vocabulary is taken
CUTTING = ("Split", "ByteLevel", "Replace")  # steps before the model that give a text's characters, whatever is around


class EncodedApart:
    """The ids of a text that is being tokenized elsewhere; control tokens written out in it count as such."""

    def __init__(self, artifact: str, text: str) -> None:
        """Begin; the artifact need not be there or right."""
        self._process: tuple[int, int] | None = None  # its number, and where it writes
        # no process to be had, no place for the text, or lone surrogates in it
        with suppress(OSError, UnicodeEncodeError), open(os.memfd_create("text"), "w+b") as file:
            file.write(text.encode())
            file.seek(0)
            command = [sys.executable, "-P", __file__, artifact]
            out, into = os.pipe()
            nowhere = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
            given = [(os.POSIX_SPAWN_DUP2, file.fileno(), 0), (os.POSIX_SPAWN_DUP2, into, 1), nowhere]
            try:  # not by subprocess, which takes 0.6 MB
                self._process = os.posix_spawn(command[0], command, os.environ, file_actions=given), out
            finally:
                os.close(into)

    def ids(self) -> list[int] | None:
        """Wait for them; None where that process failed, and the text has to be encoded here to learn why."""
        if self._process is None:
            return None
        number, out = self._process
        with open(out, "rb") as file:
            said = file.read()
        _, status = os.waitpid(number, 0)
        return json.loads(said) if status == 0 else None


def _main(artifact: str) -> None:
    import gc
    import zipfile

    gc.disable()  # nothing here is garbage
    with zipfile.ZipFile(artifact) as file:
        whole = json.loads(file.read(TOKENIZER))
    print(json.dumps(encode(whole, sys.stdin.buffer.read().decode())))


def encode(whole: dict[str, Any], text: str) -> list[int]:
    """The ids of `text` by a tokenizer.json, read."""
    from tokenizers import Tokenizer

    if _cuts_only(whole):
        rules = Tokenizer.from_str(json.dumps({**whole, "added_tokens": [], "model": {"type": "BPE"} | _EMPTY}))
        given = text if rules.normalizer is None else rules.normalizer.normalize_str(text)
        if rules.pre_tokenizer is not None:
            given = "".join(piece for piece, _ in rules.pre_tokenizer.pre_tokenize_str(given))
        whole = {**whole, "model": _arising(whole, given)}
    return Tokenizer.from_str(json.dumps(whole)).encode(text, add_special_tokens=False).ids


_EMPTY: dict[str, Any] = {"vocab": {}, "merges": []}


def _cuts_only(whole: dict[str, Any]) -> bool:
    """Whether symbols are pieces of the text as it is written, each character by itself."""
    model = whole["model"]
    steps = [step for step in (whole.get("normalizer"), whole.get("pre_tokenizer")) if step]
    steps = [part for step in steps for part in step.get("normalizers") or step.get("pretokenizers") or [step]]
    plain = all(
        s["type"] in CUTTING and not s.get("add_prefix_space") and s.get("behavior") != "Removed" for s in steps
    )
    marks = any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"))
    return model["type"] == "BPE" and plain and not marks


def _arising(whole: dict[str, Any], text: str) -> dict[str, Any]:
    """The model with those tokens and merges alone that can arise in `text`, in their order, and what always may."""
    model = whole["model"]
    vocab = model["vocab"]
    longest = max(map(len, vocab), default=0)
    if len(text) * longest > MOST:
        return model
    pieces = {text[at : at + size] for at in range(len(text)) for size in range(1, longest + 1)}
    always = {token["content"] for token in whole["added_tokens"]} | {model.get("unk_token")}
    always |= {f"<0x{byte:02X}>" for byte in range(256)}
    kept = {token: vocab[token] for token in pieces | always if token in vocab}
    pairs = ((merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in model["merges"])
    merges = [[a, b] for a, b in pairs if a in kept and b in kept and a + b in kept]
    return {**model, "vocab": kept, "merges": merges}


if __name__ == "__main__":
    _main(sys.argv[1])
