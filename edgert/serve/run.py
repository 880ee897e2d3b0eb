"""Starting and ending the server."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from edgert import cpu
from edgert.errors import DoesNotFit, EdgertError, UsageError
from edgert.llm.cache.pool import PrefixPool
from edgert.llm.engine import CachedEngine
from edgert.llm.text_model import open_text_model
from edgert.serve.app import make_app
from edgert.serve.prompts import Prompts
from edgert.serve.worker import Worker
from edgert.units import format_bytes

GRACE = 3.0  # seconds that a running answer may still take when the server is told to end
BACKLOG = 128
CONNECTIONS = 512  # at once; more are answered 503


@dataclass(frozen=True)
class Settings:
    """How to serve."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one
    api_key: str | None = None
    context: int | None = None
    threads: int | None = None
    kv: str = "f16"  # how the cache keeps keys and values
    max_queue: int = 16
    max_body: int = 4 << 20  # bytes
    dram: int | str | None = None  # a budget for the whole process
    prefix_pool: int = 0  # bytes that earlier texts' keys and values may take


class Server(uvicorn.Server):
    """uvicorn's, ending with grace: answers get GRACE seconds, then an error instead of a cut connection."""

    def __init__(self, config: uvicorn.Config, worker: Worker) -> None:
        super().__init__(config)
        self._worker = worker

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, wait for what runs."""
        asyncio.get_running_loop().call_later(GRACE, self._worker.stop)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Be told of SIGINT and SIGTERM; unlike uvicorn's, without raising them again: to end so is no failure."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {which: signal.signal(which, self.handle_exit) for which in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)


def serve(path: str | os.PathLike[str], settings: Settings, ready: Callable[[dict[str, Any]], None]) -> None:
    """Serve the language model at `path` until SIGINT or SIGTERM. `ready` is told the address when it can be asked.

    Raises UsageError for another host than this machine without an API key, EdgertError where the port is taken, and
    what opening the artifact raises."""
    listener = listen(settings)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each write after a client has hung up
    with contextlib.ExitStack() as stack:
        stack.callback(listener.close)
        model = stack.enter_context(open_text_model(path, settings.threads, settings.kv, settings.dram))
        engine = model.engine(settings.context)
        template = None
        if model.tokenizer.config.get("chat_template"):
            template = stack.enter_context(model.chat_template())
        pool = prefix_pool(engine, settings)
        worker = stack.enter_context(Worker(engine, model.tokenizer, engine.chunk, settings.max_queue, pool))
        name = Path(path).stem
        prompts = Prompts(model.tokenizer, template, engine.context, engine.vocab)
        app = make_app(name, engine.context, prompts, worker, settings.max_body, settings.api_key)
        server = Server(configured(app), worker)
        ready(
            {
                "url": address(listener),
                "model": name,
                "context": engine.context,
                "kv": settings.kv,
                "cache_bytes": engine.cache_bytes,
                "arena_bytes": model.model.arena_bytes,
                "threads": model.model.threads,
            }
        )
        server.run(sockets=[listener])


def prefix_pool(engine: CachedEngine, settings: Settings) -> PrefixPool | None:
    """The pool that `settings` ask for. Raises DoesNotFit where the model's budget, or this machine, has no room."""
    size = settings.prefix_pool
    if not size:
        return None
    if not engine.rewinds:
        raise UsageError("--prefix-pool: rows of int4 and int2 lie in groups that cannot be shared: take --kv int8")
    free = cpu.available_memory()
    if free is not None and size > free:
        raise DoesNotFit(f"--prefix-pool: {size} bytes ({format_bytes(size)}) are more than the {free} that are free")
    if engine.model.memory is not None:
        engine.model.memory.reserve("prefix pool", size)
    return PrefixPool(engine, engine.chunk, size)


def configured(app: Any) -> uvicorn.Config:
    """uvicorn's settings for `app`: errors alone are logged, on stderr."""
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=int(GRACE) + 2,
    )


def listen(settings: Settings) -> socket.socket:
    """A listening socket: who connects from now on is answered when the model is loaded."""
    host, port = settings.host, settings.port
    if settings.api_key is not None and not settings.api_key.strip():
        raise UsageError("--api-key is empty")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host}: {error}") from error
    family, _, _, _, where = found[0]
    if settings.api_key is None and not ipaddress.ip_address(where[0]).is_loopback:
        raise UsageError(f"--host {host} can be reached from other machines: give an --api-key, or serve 127.0.0.1")
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise EdgertError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def address(listener: socket.socket) -> str:
    """The base URL that clients are given."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
