"""What every engine has to do, for any engine's tests: check_engine(make) with a function that makes a fresh one."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from edgert.errors import DoesNotFit
from edgert.llm.engine_api import NO_PARENT, Engine


def _after(make: Callable[[], Engine], ids: Sequence[int]) -> np.ndarray:
    return make().prefill(ids).copy()


def check_engine(make: Callable[[], Engine], tolerance: float = 0.0) -> None:
    """Every way to the same tokens gives the same logits, within `tolerance` (absolute; 0: bit for bit).

    Greedy speculation gives exactly the text of plain decoding if `verify` and `decode` agree bit for bit; with a
    tolerance, it may differ where two tokens are that close."""
    engine = make()
    ids = [int(i) for i in np.random.default_rng(0).integers(0, engine.vocab, 9)]

    def same(logits: np.ndarray, path: Sequence[int]) -> None:
        assert logits.dtype == np.float32 and logits.shape == (engine.vocab,)
        np.testing.assert_allclose(logits, _after(make, path), rtol=0, atol=tolerance)

    same(engine.prefill(ids[:3]), ids[:3])
    assert engine.position == 3
    same(engine.decode(ids[3]), ids[:4])
    same(engine.prefill(ids[4:6]), ids[:6])  # goes on from what is there
    chain = engine.verify(ids[6:9]).copy()
    assert engine.position == 6 and chain.shape == (3, engine.vocab)
    for i in range(3):
        same(chain[i], ids[: 7 + i])
    engine.commit([0, 1])
    assert engine.position == 8
    same(engine.decode(ids[0]), [*ids[:8], ids[0]])
    engine.reset(6)
    # a tree: two roots, the first with two children, one of which goes on
    tree, parents = [ids[6], ids[2], ids[7], ids[3], ids[8]], [NO_PARENT, NO_PARENT, 0, 0, 3]
    paths = [[6], [2], [6, 7], [6, 3], [6, 3, 8]]
    rows = engine.verify(tree, parents).copy()
    for row, path in zip(rows, paths, strict=True):
        same(row, [*ids[:6], *(ids[i] for i in path)])
    engine.commit([0, 3, 4])  # not neighbours in the cache
    assert engine.position == 9
    same(engine.decode(ids[1]), [*ids[:6], ids[6], ids[3], ids[8], ids[1]])
    engine.verify(ids[:2])
    engine.commit([])
    assert engine.position == 10
    engine.reset()
    assert engine.position == 0
    same(engine.prefill(ids), ids)
    before = engine.position
    with pytest.raises(DoesNotFit):
        engine.prefill([ids[0]] * (engine.context - before + 1))
    assert engine.position == before
    same(engine.decode(ids[4]), [*ids, ids[4]])
