"""The README's table of targets, from the targets themselves: `python -m benchmarks.targets`."""

from benchmarks.readme import update
from targets import all_targets


def markdown() -> str:
    """One row a target; the first column its name for `--target`."""
    lines = ["| target | triple | needs | register |", "|---|---|---|---|"]
    for name, target in sorted(all_targets().items()):
        needs = " ".join(target.features)
        lines.append(f"| `{name}` | {target.triple} | {needs} | {target.registers} of {target.vector_bytes * 8} bits |")
    return "\n".join(lines)


if __name__ == "__main__":
    update("targets", markdown())
