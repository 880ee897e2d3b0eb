"""Read PCM WAV files with the standard library."""

import io
import wave

import numpy as np


def read_wav(data: bytes) -> tuple[np.ndarray, int]:
    """Samples as float32 [frames] in [-1, 1], channels averaged, and the sample rate in Hz.

    Raises ValueError for anything but uncompressed PCM of 8, 16, 24 or 32 bits.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"not a PCM WAV file ({error or 'cut short'})") from None
    raw = raw[: len(raw) // (width * channels) * width * channels]
    samples: np.ndarray
    if width == 1:  # the only unsigned width
        samples = np.frombuffer(raw, np.uint8).astype(np.float32) / 128 - 1
    elif width == 3:
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0].astype(np.float32) / 2**31
    elif width in (2, 4):
        samples = np.frombuffer(raw, f"<i{width}").astype(np.float32) / np.float32(2 ** (8 * width - 1))
    else:
        raise ValueError(f"WAV files of {8 * width} bits are not supported")
    return samples.reshape(-1, channels).mean(axis=1, dtype=np.float32), rate
