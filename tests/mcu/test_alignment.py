"""The simulator's check of alignment finds what a Cortex-M0+ faults on, and lets pass what it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgert.interface.simulated import open_simulated
from targets.errors import EdgertError
from tests.mcu import nets
from tests.mcu.conftest import Firmware

LOADS = {"word": (0x681B, 4), "half": (0x881B, 2), "byte": (0x781B, 1)}  # ldr, ldrh, ldrb r3, [r3]: bytes each takes
STORES = {"stored word": (0x6018, 4), "stored half": (0x8018, 2)}  # str, strh r0, [r3]


@pytest.mark.parametrize("kind", [*LOADS, *STORES])
@pytest.mark.parametrize("off", [0, 1, 2])
def test_accesses(kind: str, off: int, firmware: Firmware) -> None:
    access, size = (LOADS | STORES)[kind]
    # mov r3, sp; subs r3, #64; adds r3, #off; movs r0, #0; the access; bx lr
    code = b"".join(half.to_bytes(2, "little") for half in (0x466B, 0x3B40, 0x3300 + off, 0x2000, access, 0x4770))
    with open_simulated(str(firmware("cortex-m0plus")), "sim://cortex-m0plus") as model:
        at, there = model.firmware.function(model.manifest["entry"])
        assert there > len(code)
        parts = []
        for start, data in model.firmware.segments:
            if start <= at < start + len(data):
                data = data[: at - start] + code + data[at - start + len(code) :]
            parts.append((start, data))
        model.firmware = replace(model.firmware, segments=tuple(parts))
        if off % size:
            with pytest.raises(EdgertError, match="unaligned access"):
                list(model.run_all(nets.samples(1), check_alignment=True))
        else:
            list(model.run_all(nets.samples(1), check_alignment=True))
            assert model.last is not None and model.last.accesses == 1
