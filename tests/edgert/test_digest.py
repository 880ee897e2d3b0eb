"""SHA-256 of two at once, beside hashlib's."""

import hashlib
from random import Random

import pytest

from edgert.digest import check_digests


@pytest.mark.parametrize("sizes", [(0, 0), (1, 64), (55, 56), (63, 119), (128, 1000), (64, 0), (100_000, 99), (5,)])
def test_pairs_of_any_lengths(sizes: tuple[int, ...]) -> None:
    parts = [(str(n), memoryview(Random(n).randbytes(n)), "") for n in sizes]
    parts = [(name, data, hashlib.sha256(data).hexdigest()) for name, data, _ in parts]
    check_digests(parts)


@pytest.mark.parametrize("which", [0, 3, 6])
def test_a_flipped_bit_of_any_part_is_told(which: int) -> None:
    data = [Random(i).randbytes(700 + i) for i in range(7)]
    parts = [(f"part {i}", memoryview(d), hashlib.sha256(d).hexdigest()) for i, d in enumerate(data)]
    changed = bytearray(data[which])
    changed[-1] ^= 1
    parts[which] = (parts[which][0], memoryview(changed), parts[which][2])
    with pytest.raises(ValueError, match=f"part {which} does not match"):
        check_digests(parts)
