"""Tokenize one text in a process of its own, while this one loads the model: the tokenizer library takes a third of the
memory that a small language model needs, and much of the time to its first token.

Run as a script it is that process: it reads the artifact's tokenizer and the text on stdin, and prints the ids."""

import json
import os
import subprocess
import sys
from contextlib import suppress

TOKENIZER = "tokenizer.json"


class EncodedApart:
    """The ids of a text that is being tokenized elsewhere; control tokens written out in it count as such."""

    def __init__(self, artifact: str, text: str) -> None:
        """Begin; the artifact need not be there or right."""
        self._process: subprocess.Popen | None = None
        # no process to be had, no place for the text, or lone surrogates in it
        with suppress(OSError, UnicodeEncodeError), open(os.memfd_create("text"), "w+b") as file:
            file.write(text.encode())
            file.seek(0)
            command = [sys.executable, "-P", __file__, artifact]
            self._process = subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def ids(self) -> list[int] | None:
        """Wait for them; None where that process failed, and the text has to be encoded here to learn why."""
        if self._process is None:
            return None
        out, _ = self._process.communicate()
        return json.loads(out) if self._process.returncode == 0 else None


def _main(artifact: str) -> None:
    import zipfile

    import tokenizers

    with zipfile.ZipFile(artifact) as file:
        tokenizer = tokenizers.Tokenizer.from_str(file.read(TOKENIZER).decode())
    print(json.dumps(tokenizer.encode(sys.stdin.buffer.read().decode(), add_special_tokens=False).ids))


if __name__ == "__main__":
    _main(sys.argv[1])
