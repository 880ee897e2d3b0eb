"""Conversations as a prompt: the model's own chat template, rendered where it can do no harm.

The template runs in a child process with Jinja's sandbox and limits on time and memory (chat_render.py). The child
starts with the first use (about 0.1 s) and stays, so that later turns take about a millisecond; when a template makes
it fail it is ended, and the next use starts another."""

import contextlib
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from edgert.errors import EdgertError, UsageError

SECONDS = 5.0  # wall clock for one rendering
MOST_TEMPLATE = 1 << 20  # characters
MOST_REQUEST = 16 << 20  # bytes, with the messages
_MOST_ANSWER = 64 << 20  # bytes: the child's bound on characters, written as JSON
_PIECE = 1 << 16  # bytes read or written at once
_CHILD = Path(__file__).with_name("chat_render.py")


class ChatTemplate:
    """A template's source with the texts of the tokens it may name. A context manager; `close` ends the child."""

    def __init__(self, source: str | None, bos_token: str = "", eos_token: str = "") -> None:
        if not source:
            raise UsageError("this model has no chat template; give the whole prompt instead")
        if len(source) > MOST_TEMPLATE:
            raise EdgertError(f"the chat template has {len(source)} characters; at most {MOST_TEMPLATE} are rendered")
        self._source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True, **values: Any) -> str:
        """The prompt for `messages` ({"role": ..., "content": ...}); `values` are more names for the template.

        Raises EdgertError, in bounded time and memory, for a template that fails, does not end, or grows too large,
        and with the template's own words where it refuses the messages."""
        names = self._tokens | values | {"messages": messages, "add_generation_prompt": add_generation_prompt}
        request = json.dumps({"template": self._source, "values": names}).encode() + b"\n"
        if len(request) > MOST_REQUEST:
            raise UsageError(f"the conversation has {len(request)} bytes; at most {MOST_REQUEST} are rendered")
        with self._lock:
            try:
                answer = json.loads(self._ask(request))
            except BaseException:
                self._end()
                raise
        if "error" in answer:
            raise EdgertError(f"the chat template failed: {answer['error']}")
        return answer["text"]

    def start(self) -> None:
        """Start the child ahead of the first use."""
        if self._child is None:
            if importlib.util.find_spec("jinja2") is None:
                raise EdgertError("chat templates need the jinja2 package: pip install 'edgert[llm]'")
            command = [sys.executable, "-P", str(_CHILD)]  # -P: its folder's modules are not to be imported
            pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
            self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, cwd="/", bufsize=0)
            for end in (self._child.stdin, self._child.stdout):
                assert end is not None
                os.set_blocking(end.fileno(), False)

    def _ask(self, request: bytes) -> bytes:
        """The child's answer; both pipes are served, so that neither side can wait for the other for ever."""
        self.start()
        assert self._child is not None and self._child.stdin is not None and self._child.stdout is not None
        inlet, outlet = self._child.stdin.fileno(), self._child.stdout.fileno()
        end = time.monotonic() + SECONDS
        answer, left = bytearray(), memoryview(request)
        with selectors.DefaultSelector() as selector:
            selector.register(inlet, selectors.EVENT_WRITE)
            selector.register(outlet, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                events = selector.select(max(0.0, end - time.monotonic()))
                if not events:
                    raise EdgertError(f"the chat template failed: it takes longer than {SECONDS:g} s")
                for key, _ in events:
                    if key.fd == outlet:
                        part = os.read(outlet, _PIECE)
                        answer += part
                        if not part or len(answer) > _MOST_ANSWER:
                            raise EdgertError("the chat template failed: it takes too much time or memory")
                    elif len(left := left[self._write(inlet, left[:_PIECE]) :]) == 0:
                        selector.unregister(inlet)
        return bytes(answer)

    @staticmethod
    def _write(inlet: int, part: memoryview) -> int:
        try:
            return os.write(inlet, part)
        except BrokenPipeError:  # it has died; the other pipe's end will say so
            return len(part)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            child.wait()

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_child", None) is not None:
            self._end()
