"""PNG, WAV and pictures brought to a model's input, against encoders written here or in the standard library."""

import io
import struct
import wave
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.interface.image import fit_image
from edgert.interface.png import SIGNATURE, read_png
from edgert.interface.wav import read_wav

FLOAT, BYTE = np.dtype(np.float32), np.dtype(np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def paeth(left: int, above: int, corner: int) -> int:
    """The predictor as the PNG specification words it, section 9.4."""
    guess = left + above - corner
    distances = [(abs(guess - value), order, value) for order, value in enumerate((left, above, corner))]
    return min(distances)[2]


def filtered(rows: list[bytes], kinds: list[int], pixel: int) -> bytes:
    """Apply filter `kinds[i]` to row i, byte by byte."""
    out = bytearray()
    for y, row in enumerate(rows):
        out.append(kinds[y])
        for x, value in enumerate(row):
            left = row[x - pixel] if x >= pixel else 0
            above = rows[y - 1][x] if y else 0
            corner = rows[y - 1][x - pixel] if y and x >= pixel else 0
            out.append((value - [0, left, above, (left + above) // 2, paeth(left, above, corner)][kinds[y]]) & 255)
    return bytes(out)


def png(rows: list[bytes], kinds: list[int], width: int, depth: int, colour: int, palette: bytes = b"") -> bytes:
    pixel = max(1, depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] // 8)
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    body = zlib.compress(filtered(rows, kinds, pixel))
    middle = chunk(b"PLTE", palette) if palette else b""
    parts = [chunk(b"IHDR", header), middle, chunk(b"IDAT", body[:7]), chunk(b"IDAT", body[7:]), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(parts)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), width=st.integers(1, 9), height=st.integers(1, 9), colour=st.sampled_from([0, 2, 4, 6]))
def test_all_filters_undo(data: st.DataObject, width: int, height: int, colour: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    seed = data.draw(st.integers(0, 2**32 - 1))
    samples = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    kinds = data.draw(st.lists(st.integers(0, 4), min_size=height, max_size=height))
    got = read_png(png([row.tobytes() for row in samples], kinds, width, 8, colour))
    want = samples[..., :3] if channels >= 3 else np.repeat(samples[..., :1], 3, 2)
    np.testing.assert_array_equal(got, want)


def test_palette_low_depths_and_16_bits() -> None:
    rows = [bytes([0b11100100]), bytes([0b00011011])]
    np.testing.assert_array_equal(read_png(png(rows, [0, 2], 4, 2, 0))[..., 0], [[255, 170, 85, 0], [0, 85, 170, 255]])
    palette = bytes(range(12))
    np.testing.assert_array_equal(read_png(png(rows, [0, 1], 4, 2, 3, palette))[0, 0], [9, 10, 11])
    deep = [bytes([1, 99, 2, 99, 3, 99])]
    np.testing.assert_array_equal(read_png(png(deep, [1], 1, 16, 2)), [[[1, 2, 3]]])


def test_damaged_png_is_refused() -> None:
    whole = png([bytes(range(30))] * 4, [4, 3, 2, 1], 10, 8, 2)
    for size in range(len(whole)):
        with pytest.raises(ValueError, match="PNG"):
            read_png(whole[:size])
    for at in range(len(whole) - 12):  # IEND's own bytes tell nothing about the picture
        flipped = bytearray(whole)
        flipped[at] ^= 1
        with pytest.raises(ValueError, match="PNG"):
            read_png(bytes(flipped))


def test_absurd_sizes_are_refused_before_memory_is_taken() -> None:
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    with pytest.raises(ValueError, match="header"):
        read_png(SIGNATURE + chunk(b"IHDR", header) + chunk(b"IEND", b""))


def wav(samples: bytes, width: int, channels: int = 1, rate: int = 16000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("width", "samples"),
    [
        (1, bytes([0, 128, 192])),
        (2, struct.pack("<3h", -(2**15), 0, 2**14)),
        (3, bytes([0, 0, 0x80, 0, 0, 0, 0, 0, 0x40])),
        (4, struct.pack("<3i", -(2**31), 0, 2**30)),
    ],
)
def test_every_width_of_wav(width: int, samples: bytes) -> None:
    got, rate = read_wav(wav(samples, width))
    np.testing.assert_array_equal(got, np.float32([-1, 0, 0.5]))
    assert rate == 16000


def test_stereo_is_averaged() -> None:
    got, rate = read_wav(wav(struct.pack("<4h", 2**14, 0, -(2**14), -(2**14)), 2, 2, 8000))
    np.testing.assert_array_equal(got, np.float32([0.25, -0.5]))
    assert rate == 8000


@pytest.mark.parametrize("content", [b"", b"RIFF", b"garbage" * 10])
def test_damaged_wav_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="WAV"):
        read_wav(content)


def test_a_picture_of_the_right_size_is_only_scaled() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    first = fit_image(image, [1, 3, 4, 5], FLOAT, {})
    np.testing.assert_allclose(first[0], image.transpose(2, 0, 1) / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(fit_image(image, [1, 4, 5, 3], BYTE, {})[0], image)
    known = {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 4], "scale": 1 / 255, "channels": "BGR"}
    last = fit_image(image, [1, 4, 5, 3], FLOAT, known)
    want = (image[..., ::-1] / 255 - [0.1, 0.2, 0.3]) / [1, 2, 4]
    np.testing.assert_allclose(last[0], want, atol=1e-6)


def test_a_picture_is_scaled_to_cover_and_cropped() -> None:
    # A flat colour stays flat; a left-to-right ramp keeps its middle.
    flat = np.full((90, 160, 3), 77, np.uint8)
    np.testing.assert_array_equal(fit_image(flat, [1, 32, 32, 3], BYTE, {}), 77)
    ramp = np.repeat(np.arange(160, dtype=np.uint8)[None, :, None], 90, 0).repeat(3, 2)
    row = fit_image(ramp, [1, 3, 45, 45], FLOAT, {"scale": 1})[0, 0, 20]
    # 80 columns of two pixels each, of which 17 are cut off on the left
    np.testing.assert_allclose(row, np.arange(45) * 2 + 34.5, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "dtype"), [([1, 3], FLOAT), ([2, 3, 4, 4], FLOAT), ([1, 3, 4, 4], np.dtype("int64"))]
)
def test_pictures_fit_only_picture_inputs(shape: list[int], dtype: np.dtype) -> None:
    with pytest.raises(ValueError, match="picture"):
        fit_image(np.zeros((4, 4, 3), np.uint8), shape, dtype, {})
