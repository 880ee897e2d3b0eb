"""Token Recycling (Luo et al. 2024, "Turning Trash into Treasure"): the candidates that earlier passes did not choose.

A matrix holds, for each token, the k tokens that the model last held most likely after it. A draft is a tree walked
breadth first through the matrix, in a fixed shape that is wide where guesses are good and narrow where they are not;
every pass, also over guesses that failed, renews the rows of its tokens."""

import heapq
from collections.abc import Sequence

import numpy as np

from edgert.llm.engine_api import NO_PARENT
from edgert.llm.sampling import best
from edgert.llm.speculate import Draft
from edgert.llm.speculate_pace import Confidence

_EMPTY = -1


def tree_template(nodes: int, hits: Sequence[float], depth: int = 6) -> list[tuple[int, int]]:
    """The tree of `nodes` nodes likeliest to hold what comes: (parent's index or NO_PARENT, rank among its candidates).

    `hits[r]` is how often a token's candidate of rank r is the one that follows; a node is worth the product along
    its path, and the best are taken. In breadth-first order, so that every head of it is a sensible tree too."""
    paths: list[tuple[int, ...]] = []
    open_: list[tuple[float, tuple[int, ...]]] = [(-share, (rank,)) for rank, share in enumerate(hits)]
    heapq.heapify(open_)
    while open_ and len(paths) < nodes:
        worth, path = heapq.heappop(open_)
        paths.append(path)
        if len(path) < depth:
            for rank, share in enumerate(hits):
                heapq.heappush(open_, (worth * share, (*path, rank)))
    paths.sort(key=lambda path: (len(path), path))
    index = {path: i for i, path in enumerate(paths)}
    return [(index.get(path[:-1], NO_PARENT), path[-1]) for path in paths]


class TokenRecycling:
    """The matrix int32 [vocab, k] with its tree. It may be kept from one text to the next: it learns.

    `nodes` bounds the tree: a pass over it should cost little more than a pass over one token. `hits` are shares by
    rank for the tree's shape only (a guess in the paper's spirit: the first is likely, the rest fall off)."""

    def __init__(
        self, vocab: int, nodes: int = 16, hits: Sequence[float] = (0.5, 0.15, 0.08, 0.05, 0.03, 0.02)
    ) -> None:
        self.matrix = np.full((vocab, len(hits)), _EMPTY, np.int32)
        self.template = tree_template(nodes, hits)
        self._confidence = Confidence([0.15] * nodes) if len(hits) == 1 else None  # of a chain

    def draft(self, context: Sequence[int], most: int) -> Draft:
        """The tree from the matrix; branches end where a token was never seen."""
        tokens: list[int] = []
        parents: list[int] = []
        placed: list[int | None] = []  # of each node of the template, its index here
        for parent, rank in self.template:
            above = NO_PARENT if parent == NO_PARENT else placed[parent]
            token = _EMPTY
            if above is not None and len(tokens) < most:
                token = int(self.matrix[context[-1] if above == NO_PARENT else tokens[above], rank])
            if token == _EMPTY or above is None:
                placed.append(None)
                continue
            placed.append(len(tokens))
            tokens.append(token)
            parents.append(above)
        if self._confidence is None:
            return Draft(tokens, parents)
        self._confidence.settle(context)
        return Draft(tokens, parents, self._confidence.propose(context, tokens, range(len(tokens))))

    def observe(self, ids: Sequence[int], logits: np.ndarray) -> None:
        """Renew the rows of `ids` with the best of logits [n, vocab], or with the likeliest tokens [n] alone; a later
        row of the same token counts."""
        if logits.ndim == 1:
            self.matrix[ids, 0] = logits
            return
        width = self.matrix.shape[1]
        for token, row in zip(ids, logits, strict=True):
            found = best(row, width)
            self.matrix[token, : len(found)] = found
