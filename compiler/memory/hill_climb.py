"""Hill climbing over placement orders: what lies at the top of the arena is tried earlier.

Starts from the greedy orders by size and by breadth, as they are and shuffled a little. Seeded, and bounded by the
number of placements, never by a clock: the same requests always get the same offsets.
"""

import random
from collections.abc import Sequence

from compiler.memory.by_breadth import breadth_order
from compiler.memory.by_size import size_order
from compiler.memory.place import arena_bytes, place
from compiler.memory.request import Request, align, lower_bound

SEED = 0
STARTS = 4
MOVES = 20_000  # buffers placed in all, whatever their number: a fraction of a second


def hill_climb(requests: Sequence[Request]) -> list[int]:
    """Byte offsets for `requests`: the best found within MOVES placed buffers, or the first at the lower bound."""
    if not requests:
        return []
    rng = random.Random(SEED)
    bound = lower_bound(requests)
    rounds = max(1, MOVES // (STARTS * len(requests)))
    orders = [(size_order(requests), True), (breadth_order(requests), False)]
    best: list[int] = []
    best_arena = -1
    for start in range(STARTS):
        order, best_fit = orders[start % len(orders)]
        if start >= len(orders):
            _shuffle(order, rng)
        offsets = place(requests, order, best_fit)
        arena = arena_bytes(requests, offsets)
        for _ in range(rounds):
            if arena == bound:
                return offsets
            trial = _raise_top(requests, order, offsets, arena, rng)
            trial_offsets = place(requests, trial, best_fit)
            trial_arena = arena_bytes(requests, trial_offsets)
            if trial_arena <= arena:
                order, offsets, arena = trial, trial_offsets, trial_arena
        if best_arena < 0 or arena < best_arena:
            best, best_arena = offsets, arena
    return best


def _raise_top(
    requests: Sequence[Request], order: list[int], offsets: list[int], arena: int, rng: random.Random
) -> list[int]:
    """`order` with one buffer that ends at the top of the arena moved to a random earlier place."""
    top = [i for i, index in enumerate(order) if offsets[index] + align(requests[index].size) == arena]
    position = rng.choice(top)
    moved = list(order)
    moved.insert(rng.randrange(position + 1), moved.pop(position))
    return moved


def _shuffle(order: list[int], rng: random.Random) -> None:
    """Swap pairs of `order` at random, a tenth of it."""
    for _ in range(max(1, len(order) // 10)):
        a, b = rng.randrange(len(order)), rng.randrange(len(order))
        order[a], order[b] = order[b], order[a]
