"""Best fit by life time: the buffer that lives longest first, each into the tightest gap.

Long-lived buffers (skip connections, recurrent state) then lie together at the bottom and short ones pass above.
"""

from collections.abc import Sequence

from compiler.memory.place import place
from compiler.memory.request import Request


def by_lifetime(requests: Sequence[Request]) -> list[int]:
    """Byte offsets for `requests`, placed from the longest life to the shortest; equals largest first."""
    order = sorted(range(len(requests)), key=lambda i: (requests[i].first - requests[i].last, -requests[i].size, i))
    return place(requests, order, best_fit=True)


def by_area(requests: Sequence[Request]) -> list[int]:
    """Byte offsets for `requests`, placed from the largest bytes x steps to the smallest, lowest gap first."""

    def area(i: int) -> int:
        size, first, last = requests[i]
        return size * (last - first + 1)

    return place(requests, sorted(range(len(requests)), key=lambda i: (-area(i), i)))
