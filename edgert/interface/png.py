"""Read PNG images with zlib and numpy alone (PNG specification, third edition, W3C 2025)."""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples per pixel by colour type
MAX_PIXELS = 1 << 27  # a guard against headers that ask for absurd memory


def read_png(data: bytes) -> np.ndarray:
    """The image as uint8 [height, width, 3], alpha dropped, 16-bit samples cut to 8.

    Raises ValueError for anything but a whole, non-interlaced PNG.
    """
    if not data.startswith(SIGNATURE):
        raise ValueError("not a PNG file")
    header, palette, packed = b"", b"", []
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        if zlib.crc32(kind + body).to_bytes(4, "big") != data[at + 8 + size : at + 12 + size]:
            raise ValueError("PNG file is damaged or cut short")
        header = body if kind == b"IHDR" else header
        palette = body if kind == b"PLTE" else palette
        if kind == b"IDAT":
            packed.append(body)
        if kind == b"IEND":
            break
        at += 12 + size
    else:
        raise ValueError("PNG file is cut short")
    if len(header) != 13:
        raise ValueError("PNG file has no header")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if interlaced:
        raise ValueError("interlaced PNG files are not supported")
    if colour not in CHANNELS or depth not in (1, 2, 4, 8, 16) or not 0 < width * height <= MAX_PIXELS:
        raise ValueError("PNG file has a nonsensical header")
    samples = _samples(b"".join(packed), width, height, depth, CHANNELS[colour])
    if colour == 3:
        return np.frombuffer(palette, np.uint8).reshape(-1, 3)[samples[..., 0]]
    if depth < 8:
        samples = samples * (255 // (2**depth - 1))
    return np.ascontiguousarray(np.repeat(samples[..., :1], 3, 2) if colour in (0, 4) else samples[..., :3])


def _samples(packed: bytes, width: int, height: int, depth: int, channels: int) -> np.ndarray:
    """Decompressed, unfiltered samples as uint8 [height, width, channels]."""
    stride = (width * depth * channels + 7) // 8
    try:
        raw = zlib.decompressobj().decompress(packed, height * (stride + 1))
    except zlib.error as error:
        raise ValueError(f"PNG file is damaged: {error}") from None
    if len(raw) != height * (stride + 1):
        raise ValueError("PNG file is cut short")
    rows = np.frombuffer(raw, np.uint8).reshape(height, stride + 1)
    if rows[:, 0].max() > 4:
        raise ValueError("PNG file has an unknown filter")
    pixel = max(1, depth * channels // 8)
    plain = _unfilter(rows[:, 1:].reshape(height, stride // pixel, pixel), rows[:, 0])
    if depth == 16:
        return plain.reshape(height, width, channels, 2)[..., 0]
    if depth == 8:
        return plain.reshape(height, width, channels)
    bits = np.unpackbits(plain.reshape(height, stride), axis=1)[:, : width * depth]
    values = bits.reshape(height, width, depth) @ (1 << np.arange(depth)[::-1])
    return values.astype(np.uint8)[..., None]


def _unfilter(filtered: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Undo the row filters of [height, width, bytes per pixel], `kinds` being each row's filter, 0 to 4.

    A pixel depends on those to its left, above, and above left. So all pixels of one diagonal (row + column) can be
    done at once, which keeps the loop in numpy.
    """
    height, width, pixel = filtered.shape
    plain = np.zeros((height + 1, width + 1, pixel), np.int16)  # a border of zeros above and to the left
    for diagonal in range(height + width - 1):
        row = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        column = diagonal - row
        left, above, corner = plain[row + 1, column], plain[row, column + 1], plain[row, column]
        guess = left + above - corner
        to_left, to_above, to_corner = abs(guess - left), abs(guess - above), abs(guess - corner)
        nearest = np.where(to_above <= to_corner, above, corner)
        paeth = np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)
        kind = kinds[row][:, None]
        predicted = np.choose(kind, [np.zeros_like(left), left, above, (left + above) >> 1, paeth])
        plain[row + 1, column + 1] = (filtered[row, column] + predicted) & 255
    return plain[1:, 1:].astype(np.uint8)
