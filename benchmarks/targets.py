"""The README's tables of targets and schemes, from these themselves: `python -m benchmarks.targets`."""

from benchmarks.readme import update
from quant.schemes import SCHEMES
from targets import all_targets
from targets.gpu import Gpu


def targets_table() -> str:
    """One row a target; the first column its name for `--target`."""
    lines = ["| target | triple | needs | register | byte products |", "|---|---|---|---|---|"]
    for name, t in sorted(all_targets().items()):
        register = f"{t.registers} of {t.vector_bytes * 8} bits"
        ways = " and ".join(filter(None, (t.tiles, t.dot)))
        if isinstance(t, Gpu) and t.host is not None:
            register, ways = (
                f"groups of {t.workgroup}, tiles of {t.tile} x {t.vector}",
                "source only (`--emit source`)"
                if t.source_only
                else f"OpenCL C{', half in memory' if t.half else ''}, beside {t.host.name}",
            )
        lines.append(f"| `{name}` | {t.triple} | {' '.join(t.features)} | {register} | {ways} |")
    return "\n".join(lines)


def schemes_table() -> str:
    """One row a scheme; the first column its name for `--scheme`."""
    lines = ["| scheme | what | calibration |", "|---|---|---|"]
    for name, scheme in SCHEMES.items():
        lines.append(f"| `{name}` | {scheme.about} | {'needed' if scheme.calibrated else ''} |")
    return "\n".join(lines)


if __name__ == "__main__":
    update("targets", targets_table())
    update("schemes", schemes_table())
