"""The README's table of microcontrollers: instructions and bytes on every simulated core, beside other tools.

`python -m benchmarks.mcu [--readme] [--cores cortex-m4,...]`; counts are exact and do not depend on the machine.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import edgert
from benchmarks import mcu_emx
from benchmarks.readme import markdown, update
from edgert.errors import EdgertError
from edgert.interface.counted import Counted, count
from edgert.placing import Placing
from targets.devices.registry import cores

SHARED = Path(__file__).resolve().parents[2] / "shared" / "models"


@dataclass(frozen=True)
class Network:
    """A model beside the repository. ram: a budget for a second row, where one is worth it."""

    name: str
    path: Path
    ram: int | None = None


NETWORKS = [
    Network("keywords (KWS)", SHARED / "kws" / "kws_qdq_int8.onnx"),
    Network("person detection (VWW)", SHARED / "vww" / "vww_96_qdq_int8.onnx", 48 << 10),
]
# TFLite Micro with CMSIS-NN on the same networks and simulators: given figures, not measured by this script.
# (network, core): instructions, code, model file's bytes in flash, RAM with arena, data and stack
GIVEN = {
    ("keywords (KWS)", "cortex-m4"): (7_847_700, 57_216, 24_380),
    ("keywords (KWS)", "cortex-m55"): (1_788_534, 48_072, None),
    ("person detection (VWW)", "cortex-m4"): (24_720_174, 57_216, 102_268),
    ("person detection (VWW)", "cortex-m55"): (6_433_859, 48_072, None),
}
COLUMNS = ["network", "core", "tool", "instructions", "per MAC", "code", "code and weights", "RAM"]


def number(value: float | None, digits: int = 0) -> str:
    """With thousands' separators; nothing where it is not known."""
    return "" if value is None else f"{value:,.{digits}f}"


def measured(network: Network, core: str, ram: int | None, optimize: str, folder: Path) -> Counted:
    """This project's figures: integers in and out, the device's own answers checked by `verify` elsewhere."""
    path = folder / "model.elf"
    placing = Placing(stack=1024, optimize=optimize)
    edgert.compile(network.path, path, target=core, emit="elf", io="quantized", ram=ram, placing=placing)
    return count(str(path), f"sim://{core}")


def rows_of(network: Network, core: str, folder: Path) -> Iterator[list[str]]:
    """Rows of the table: ours, for speed (where that is another), within a budget; those of other tools."""
    macs, seen = 0, set()
    for ram, optimize in [(None, "size"), (None, "speed"), *([(network.ram, "size")] if network.ram else [])]:
        tool = "edgert" + (f" --ram {ram >> 10}K" if ram else "") + " --optimize speed" * (optimize == "speed")
        try:
            found = measured(network, core, ram, optimize, folder)
        except EdgertError as error:
            print(f"{network.name} on {core}: {error}", file=sys.stderr)
            continue
        macs = macs or found.macs
        if found.instructions in seen:
            continue
        seen.add(found.instructions)
        flash = found.code_bytes + found.weights_bytes
        yield [network.name, core, tool, number(found.instructions), number(found.instructions / macs, 2),
               number(found.code_bytes), number(flash), number(found.ram_bytes)]  # fmt: skip
    if (given := GIVEN.get((network.name, core))) and macs:
        instructions, code, ram_bytes = given
        yield [network.name, core, "TFLite Micro, CMSIS-NN (given)", number(instructions),
               number(instructions / macs, 2), number(code), "", number(ram_bytes)]  # fmt: skip
    if macs and mcu_emx.able(core):
        try:
            emx = mcu_emx.measured(network.path, core, folder)
        except EdgertError as error:
            print(f"emx-onnx-cgen, {network.name} on {core}: {error}", file=sys.stderr)
            return
        yield [network.name, core, "emx-onnx-cgen", number(emx.instructions), number(emx.instructions / macs, 2),
               number(emx.code_bytes), number(emx.code_bytes + emx.weights_bytes), number(emx.ram_bytes)]  # fmt: skip


def main() -> None:
    """Prints the table; with --readme it goes into README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--cores", default=",".join(sorted(cores())))
    options = parser.parse_args()
    rows = []
    for network in (n for n in NETWORKS if n.path.is_file()):
        for core in options.cores.split(","):
            with tempfile.TemporaryDirectory() as name:
                for row in rows_of(network, core, Path(name)):
                    print(" | ".join(row), flush=True)
                    rows.append(row)
    table = markdown(COLUMNS, rows)
    print(table)
    if options.readme:
        update("mcu", table)


if __name__ == "__main__":
    main()
