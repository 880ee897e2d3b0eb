"""Greedy by breadth: the fullest step first, and all that is live in it, largest first.

"Greedy by Breadth" of Pisarchyk and Lee (2020), applied to offsets: it packs the peak while nothing is in the way.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from compiler.memory.place import place
from compiler.memory.request import Request, align


def by_breadth(requests: Sequence[Request]) -> list[int]:
    """Byte offsets for `requests`, step by step from the step with the most live bytes to that with the least."""
    return place(requests, breadth_order(requests))


def breadth_order(requests: Sequence[Request]) -> list[int]:
    """Indices of `requests` ordered by the fullest step that each is live in, then largest first."""
    # What is live grows only where a buffer begins, so these steps are enough to know every maximum.
    steps = sorted({request.first for request in requests})
    spans = [(bisect_left(steps, first), bisect_right(steps, last)) for _, first, last in requests]
    live = np.zeros(len(steps), dtype=np.int64)
    for request, (begin, end) in zip(requests, spans, strict=True):
        live[begin:end] += align(request.size)
    # Only the rank of a buffer's fullest step counts; taking equal steps in order keeps the result deterministic.
    rank = np.empty(len(steps), dtype=np.int64)
    rank[np.argsort(-live, kind="stable")] = np.arange(len(steps))
    fullest = [int(rank[begin:end].min()) for begin, end in spans]
    return sorted(range(len(requests)), key=lambda i: (fullest[i], -requests[i].size, i))
