"""The thread that owns the engine: jobs come in a bounded queue and run one after the other."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import closing
from typing import Self, cast

from edgert.errors import EdgertError
from edgert.llm.cache.pool import PrefixPool
from edgert.llm.engine_api import Engine
from edgert.llm.generate import Event, Generation
from edgert.llm.tokenizer import Tokenizer
from edgert.serve.errors import ApiError, internal, stopping
from edgert.serve.jobs import Job, Piece, Usage
from edgert.serve.prefix import Prefix

LOG = logging.getLogger("edgert.serve")
FINISH = {"end": "stop", "stop": "stop", "constraint": "stop", "length": "length", "context": "length"}
"""OpenAI's word for why a text ended."""


class Worker:
    """Runs jobs on one engine, which nothing else may use meanwhile. A context manager that ends the thread."""

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, chunk: int, most_waiting: int, pool: PrefixPool | None = None
    ) -> None:
        """`chunk`: tokens that the engine runs at once; `most_waiting`: jobs beside the one that runs; `pool`: where
        the engine's other texts are kept."""
        self._engine, self._tokenizer, self._most = engine, tokenizer, most_waiting + 1
        self._prefix = Prefix(engine, chunk, pool)
        self._ready: deque[Job] = deque()
        self._admitted: set[Job] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._seconds = 1.0  # what a job took of late
        self._thread = threading.Thread(target=self._work, name="edgert-engine", daemon=True)
        self._thread.start()

    @property
    def admitted(self) -> int:
        """Jobs that run, wait or are being prepared."""
        return len(self._admitted)

    def admit(self) -> Job:
        """A place in the queue. Raises ApiError: 429 when all are taken, 503 when the server is going down."""
        with self._changed:
            if self._stopping:
                raise stopping()
            if len(self._admitted) >= self._most:
                raise ApiError(
                    429,
                    f"the server is busy: {len(self._admitted)} requests run or wait, at most {self._most} may",
                    "requests",
                    code="rate_limit_exceeded",
                    headers={"retry-after": str(max(1, math.ceil(self._seconds)))},
                )
            job = Job(self._enqueue, self._release)
            self._admitted.add(job)
            return job

    def stop(self) -> None:
        """Take no more jobs, fail those that wait and the one that runs."""
        with self._changed:
            self._stopping = True
            for job in self._admitted:
                job.cancelled = True
            self._changed.notify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()

    def _enqueue(self, job: Job) -> None:
        with self._changed:
            if self._stopping:
                job.tell(stopping())
            self._ready.append(job)
            self._changed.notify()

    def _release(self, job: Job) -> None:
        with self._changed:
            self._admitted.discard(job)

    def _next(self) -> Job | None:
        """The next job, or None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._stopping)
            return self._ready.popleft() if self._ready else None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            begin = time.monotonic()
            last = self._outcome(job)
            self._seconds += 0.3 * (time.monotonic() - begin - self._seconds)
            self._release(job)  # first, so that whoever has the whole answer finds a place again
            if last is not None:
                job.tell(last)

    def _outcome(self, job: Job) -> Piece | ApiError | None:
        """Run `job`; what is to be told last. None where nobody listens."""
        try:
            last = self._run(job)
        except EdgertError as error:
            self._prefix.forget()
            return ApiError(500, str(error), "server_error", code="generation_failed")
        except Exception:
            LOG.exception("a generation failed")
            self._prefix.forget()
            return internal()
        return stopping() if last is None and self._stopping else last

    def _run(self, job: Job) -> Piece | None:
        """The last piece, or None if the job was cancelled."""
        assert job.prepared is not None
        if job.cancelled:
            return None
        prepared, ids = job.prepared, job.prepared.ids
        kept = start = self._prefix.keep(ids, prepared.exact)
        tokens: list[int] = []
        try:
            for piece in self._prefix.pieces(ids, kept):
                if job.cancelled:
                    return None
                self._engine.prefill(piece)
                start += len(piece)
            generation = Generation(
                self._engine, ids[start:], self._tokenizer, prepared.options, prepared.constraint, history=ids[:start]
            )
            tokens = generation.tokens
            with closing(cast(Generator[Event, None, None], iter(generation))) as events:
                for event in events:
                    if event.finish:
                        return Piece(event.text, FINISH[event.finish], Usage(len(ids), kept, len(tokens)))
                    if job.cancelled:
                        return None
                    if event.text:
                        job.tell(Piece(event.text))
            return None
        finally:
            self._prefix.hold([*ids, *tokens], len(ids), kept)
