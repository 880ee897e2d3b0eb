"""SHA-256 of many pieces at once, each core its share: by the runtime, as hashlib brings 3 MB of OpenSSL along."""

import ctypes
import threading
from collections.abc import Sequence

import numpy as np

from edgert.cpu import core_count
from edgert.native.library import runtime

ALONE_BYTES = 1 << 20  # below this, starting a thread costs more than it saves


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Its SHA-256 in hexadecimal. The interpreter's lock is free meanwhile."""
    digest = (ctypes.c_uint8 * 32)()
    runtime().edgert_sha256(np.frombuffer(data, np.uint8).ctypes.data, len(data), digest)
    return bytes(digest).hex()


def check_digests(parts: Sequence[tuple[str, memoryview, str]]) -> None:
    """Check (name, bytes, SHA-256 in hexadecimal) triples. Raises ValueError naming the first that does not match."""
    todo = sorted(range(len(parts)), key=lambda index: len(parts[index][1]))  # largest last, hence taken first
    wrong: list[int] = []

    def work() -> None:
        while not wrong:
            try:
                index = todo.pop()
            except IndexError:
                return
            _, data, digest = parts[index]
            if sha256(data) != digest:
                wrong.append(index)

    total = sum(len(data) for _, data, _ in parts)
    helpers = min(core_count(), len(parts), 8, 1 + total // ALONE_BYTES) - 1
    threads = [threading.Thread(target=work) for _ in range(helpers)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if wrong:
        raise ValueError(f"{parts[min(wrong)][0]} does not match its SHA-256")
