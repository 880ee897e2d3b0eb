"""SHA-256 of many pieces at once, each core its share: by the runtime, as hashlib brings 3 MB of OpenSSL along."""

import ctypes
import threading
from collections.abc import Sequence

import numpy as np

from edgert.cpu import core_count
from edgert.native.library import runtime

ALONE_BYTES = 1 << 20  # below this, starting a thread costs more than it saves
_Places, _Sizes, _Digests = ctypes.c_void_p * 2, ctypes.c_int64 * 2, ctypes.c_uint8 * 64


def sha256(data: bytes | bytearray | memoryview) -> str:
    """Its SHA-256 in hexadecimal. The interpreter's lock is free meanwhile."""
    digest = (ctypes.c_uint8 * 32)()
    runtime().edgert_sha256(_place(data), len(data), digest)
    return bytes(digest).hex()


def _place(data: bytes | bytearray | memoryview) -> int:
    return int(np.frombuffer(data, np.uint8).__array_interface__["data"][0])


def _both(one: memoryview, other: memoryview) -> tuple[str, str]:
    """What sha256 gives of each."""
    digests = _Digests()
    places, sizes = _Places(_place(one), _place(other)), _Sizes(len(one), len(other))
    runtime().edgert_sha256_pair(places, sizes, digests)
    found = bytes(digests).hex()
    return found[:64], found[64:]


def check_digests(parts: Sequence[tuple[str, memoryview, str]]) -> None:
    """Check (name, bytes, SHA-256 in hexadecimal) triples. Raises ValueError naming the first that does not match."""
    order = sorted(range(len(parts)), key=lambda index: len(parts[index][1]))  # largest last, hence taken first
    todo = [order[max(0, end - 2) : end] for end in range(len(order), 0, -2)][::-1]
    wrong: list[int] = []

    def work() -> None:
        while not wrong:
            try:
                some = todo.pop()
            except IndexError:
                return
            data = [parts[index][1] for index in some]
            found = _both(*data) if len(data) == 2 else (sha256(data[0]),)
            wrong.extend(index for index, digest in zip(some, found, strict=True) if parts[index][2] != digest)

    total = sum(len(data) for _, data, _ in parts)
    helpers = min(core_count(), len(todo), 8, 1 + total // ALONE_BYTES) - 1
    threads = [threading.Thread(target=work) for _ in range(helpers)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if wrong:
        raise ValueError(f"{parts[min(wrong)][0]} does not match its SHA-256")
