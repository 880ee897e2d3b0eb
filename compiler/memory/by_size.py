"""Greedy by size: the largest buffer first, each into the tightest gap.

"Greedy by Size for Offset Calculation" of Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net
Inference (2020), the planner of TFLite and ExecuTorch.
"""

from collections.abc import Sequence

from compiler.memory.place import place
from compiler.memory.request import Request


def by_size(requests: Sequence[Request]) -> list[int]:
    """Byte offsets for `requests`, placed from the largest to the smallest; equals in order of their first step."""
    return place(requests, size_order(requests), best_fit=True)


def size_order(requests: Sequence[Request]) -> list[int]:
    """Indices of `requests` from the largest to the smallest, equals in order of their first step."""
    return sorted(range(len(requests)), key=lambda i: (-requests[i].size, requests[i].first, i))
