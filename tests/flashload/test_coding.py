"""Weights coded without loss: the same bytes come out, damage never does harm, and a model runs as from plain ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgert
from edgert import artifact, coding, runner
from edgert.errors import EdgertError, UsageError
from flashload.coding import huffman, planes
from flashload.coding.worth import DecodeSpeed, pays
from flashload.named_profiles import named
from tests.flashload import faulty
from tests.flashload.networks import WIDTH, coded_mlp, mlp
from tests.flashload.test_stream import planned

X = np.random.default_rng(5).normal(size=(3, WIDTH)).astype(np.float32)


def samples() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 0.05, 5000).astype(np.float32)
    return {
        "float32": values.view(np.uint8),
        "bfloat16": (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8),
        "float16": values.astype(np.float16).view(np.uint8),
        "int8": (values * 300).astype(np.int8).view(np.uint8),
        "noise": rng.integers(0, 256, 4096).astype(np.uint8),
        "one value": np.full(1000, 7, np.uint8),
        "two values": np.array([3, 250] * 7 + [3], np.uint8),
        "one byte": np.array([9], np.uint8),
        "nothing": np.zeros(0, np.uint8),
    }


@pytest.mark.parametrize("name", samples())
def test_the_same_bytes_come_out(name: str) -> None:
    data = samples()[name]
    for width in planes.WIDTHS:
        if len(data) % width == 0:
            np.testing.assert_array_equal(coding.decode(planes.encode(data, width), len(data)), data)


def test_exponents_are_what_is_saved() -> None:
    """Of normally spread values the exponent holds some 2.6 bits of 8 (DFloat11), the fraction everything."""
    found = samples()
    size = {name: len(planes.encode(found[name], width)) / len(found[name])
            for name, width in (("float32", 4), ("bfloat16", 2), ("noise", 1))}  # fmt: skip
    assert 0.65 < size["bfloat16"] < 0.75
    assert 0.80 < size["float32"] < 0.87
    assert 1 <= size["noise"] < 1.01
    assert planes.width_of(found["bfloat16"])[0] == 2
    assert planes.width_of(found["float32"])[0] == 4
    assert planes.width_of((np.random.default_rng(2).normal(0, 15, 1 << 17)).astype(np.int8).view(np.uint8))[0] == 1


@given(st.lists(st.integers(0, 1 << 20), min_size=256, max_size=256))
@settings(deadline=None, max_examples=30)
def test_codes_are_complete_short_and_as_good_as_entropy_allows(counts: list[int]) -> None:
    lengths = huffman.code_lengths(np.array(counts)).astype(int)
    used = np.array(counts) > 0
    assert (lengths > 0).tolist() == used.tolist()
    assert lengths.max(initial=0) <= huffman.LIMIT
    if used.sum() > 1:
        assert (2.0 ** -lengths[used]).sum() == 1
        share = np.array(counts)[used] / sum(counts)
        assert (share * lengths[used]).sum() <= -(share * np.log2(share)).sum() + 1  # Huffman's bound


@given(st.integers(0, 2**32), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_damage_is_told_or_gives_other_bytes_and_nothing_else(seed: int, flips: int) -> None:
    rng = np.random.default_rng(seed)
    data = samples()["bfloat16"][:2000]
    broken = bytearray(planes.encode(data, 2))
    for at in rng.integers(0, len(broken), flips):
        broken[at] ^= int(rng.integers(1, 256))
    del broken[int(rng.integers(len(broken) // 2, len(broken) + 1)) :]
    try:
        assert len(coding.decode(bytes(broken), len(data))) == len(data)
    except ValueError as error:
        assert "damaged" in str(error)


def test_coding_is_for_slow_flash_and_bytes_that_hold_little() -> None:
    decode = DecodeSpeed(1e9, 8e9)
    float32, int4 = [8, 8, 8, 2.7], [7.65]
    assert pays(float32, decode, named("emmc-5.1"))
    assert pays(int4, decode, named("emmc-5.1"))
    assert not pays(int4, DecodeSpeed(1e9, 8e9), named("qspi-nor")) or named("qspi-nor").cores == 1
    assert not pays([8.0] * 4, decode, named("sd-uhs-1"))  # nothing to save
    fast = named("nvme")
    assert not pays(int4, DecodeSpeed(0.3e9, 2e9), fast)  # 5 % less to read, 7 cores decoding 2.1 of 3.4 GB/s


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coded_mlp(tmp_path_factory.mktemp("coded"))


def test_a_coded_artifact_holds_the_same_weights_in_fewer_bytes(coded: Path) -> None:
    plain, small = artifact.Artifact.open(mlp()), artifact.Artifact.open(coded)
    assert small.weights == plain.weights
    assert small.spec.segments == plain.spec.segments
    assert coded.stat().st_size < 0.88 * mlp().stat().st_size
    assert "less)" in coding.coding_text(small.manifest)


@pytest.mark.parametrize("pinned", [0.0, 0.4, 1.0])
def test_the_bits_are_those_of_plain_weights(coded: Path, pinned: float) -> None:
    with edgert.load(mlp(), threads=1) as model:
        right = model.run({"x": X})["y"]
    with edgert.load(coded, threads=1) as model:
        np.testing.assert_array_equal(model.run({"x": X})["y"], right)
    for source in (None, faulty.Faulty(faulty.SHORT), faulty.Faulty(faulty.INTERRUPTED)):
        with planned(runner.load(coded, 1, dram="64G", source=source), pinned, 1 << 20) as model:
            for _ in range(3):
                np.testing.assert_array_equal(model.run({"x": X})["y"], right)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(faulty.EIO_AT, "Input/output error"), (faulty.FLIP_AT, "is damaged"), (faulty.END_AT, "ends there")],
)
def test_what_goes_wrong_under_coded_weights_is_told(coded: Path, kind: int, words: str) -> None:
    opened = artifact.Artifact.open(coded)
    coding_of = opened.spec.coding
    assert coding_of is not None
    place = opened.weights_offset + coding_of.stored * 2 // 3
    source = faulty.Faulty(kind, place)
    with planned(runner.load(coded, 1, dram="64G", source=source), 0.0, 1 << 20) as model:
        for _ in range(2):
            with pytest.raises(EdgertError, match=words):
                model.run({"x": X})


def test_a_flipped_byte_is_noticed_when_all_is_loaded(coded: Path, tmp_path: Path) -> None:
    opened, data = artifact.Artifact.open(coded), bytearray(coded.read_bytes())
    assert opened.spec.coding is not None
    data[opened.weights_offset + opened.spec.coding.stored * 2 // 3] ^= 1
    (tmp_path / "d.edge").write_bytes(data)
    with pytest.raises(EdgertError, match=r"d\.edge: damaged artifact: weights\.bin, (segment|coded part) \d+"):
        edgert.load(tmp_path / "d.edge")


def test_parts_that_do_not_fit_are_refused(coded: Path) -> None:
    entry = artifact.Artifact.open(coded).manifest["coding"]
    segments = artifact.Artifact.open(coded).spec.segments
    coding.parse_coding(entry, segments)
    for change in (lambda p: p.pop(), lambda p: p[1].__setitem__(0, 4096), lambda p: p[-1].__setitem__(1, 1 << 50),
                   lambda p: p[0].__setitem__(2, 7), lambda p: p[1].append(0)):  # fmt: skip
        parts = [list(part) for part in entry["parts"]]
        change(parts)
        with pytest.raises(ValueError, match="coding"):
            coding.parse_coding({**entry, "parts": parts}, segments)


def test_programs_are_not_coded() -> None:
    with pytest.raises(UsageError, match="--code auto is for artifacts"):
        coding.coder_of("auto", "exe")
    assert coding.coder_of("none", "exe") is None
