"""Small helpers: atomic files, .npy, amounts of memory."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgert import npy, units
from edgert.atomic import atomic_file, write_atomic
from edgert.errors import EdgertError, UsageError


def test_an_atomic_file_appears_whole_or_not(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"one")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"two")
        assert path.read_bytes() == b"one"
        raise ZeroDivisionError
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("f", b"one")]


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("n" * 255), b"1")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"1"


ARRAYS = hnp.arrays(
    st.one_of(hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="="), hnp.floating_dtypes(endianness="=")),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@given(array=ARRAYS, fortran=st.booleans())
def test_npy_goes_there_and_back(array: np.ndarray, fortran: bool) -> None:
    given_array = np.asfortranarray(array) if fortran and array.ndim else array
    data = npy.to_bytes(given_array)
    again = npy.from_bytes(data, "x")
    assert again.shape == array.shape
    assert again.dtype == array.dtype
    assert again.tobytes() == array.tobytes()
    np.testing.assert_array_equal(np.load(io.BytesIO(data)), given_array)


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_npy_is_one_error_or_an_array(data: st.DataObject) -> None:
    good = npy.to_bytes(np.arange(12, dtype=np.float32).reshape(3, 4))
    at = data.draw(st.integers(0, 127))
    new = data.draw(st.binary(min_size=0, max_size=20))
    cut = data.draw(st.integers(0, len(good)) | st.just(len(good)))
    changed = (good[:at] + new + good[at + len(new) :])[:cut]
    try:
        assert npy.from_bytes(changed, "x.npy").nbytes == 48
    except EdgertError as error:
        assert str(error).startswith("x.npy: not a usable .npy file: ")
        assert "\n" not in str(error)


@pytest.mark.parametrize("array", [np.array([object()]), np.zeros(3, [("a", "f4")]), np.array([{}])])
def test_npy_files_with_objects_are_refused(array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    with pytest.raises(EdgertError, match=r"it holds .*, not numbers"):
        npy.from_bytes(buffer.getvalue(), "x")


def test_npy_with_a_huge_promise_is_not_allocated() -> None:
    head = npy.to_bytes(np.zeros(1, np.float32))[:-4]
    huge = head.replace(b"(1,)", b"(999999999999,)".ljust(4)).replace(b" " * 11 + b"\n", b"\n")
    with pytest.raises(EdgertError, match="its header promises 3999999999996 bytes of data, the file has"):
        npy.from_bytes(huge, "x")


def test_names_of_tensors_as_files() -> None:
    names = ["x", "a/b:0", "a%2Fb", "ü", "..", "a b"]
    stems = [npy.file_stem(name) for name in names]
    assert stems == ["x", "a%2Fb%3A0", "a%252Fb", "%C3%BC", "..", "a%20b"]
    assert len(set(stems)) == len(names)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("262144", 262144), ("256K", 262144), ("256KiB", 262144), ("1.5m", 3 << 19), ("2 G", 2 << 30), (7, 7)],
)
def test_amounts_of_memory(text: int | str, count: int) -> None:
    assert units.parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "-1", "K", "1.2.3M", "1P", "1e9", "٣K", -5])
def test_amounts_that_make_no_sense(text: int | str) -> None:
    with pytest.raises(UsageError, match="not an amount of memory"):
        units.parse_bytes(text)


def test_amounts_for_people() -> None:
    assert [units.format_bytes(n) for n in (0, 1023, 1024, 5 << 20)] == ["0 B", "1023 B", "1.0 KiB", "5.0 MiB"]
