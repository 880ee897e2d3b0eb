"""What this process takes of the machine's memory."""

import resource
import sys


def memory() -> dict[str, int | None]:
    """Bytes: `peak_rss` (the most that was resident), `rss_anon` (now, its own) and `rss_file` (now, pages of files,
    which the kernel can drop and read again); None where the system does not say."""
    found = _status()
    # ru_maxrss would also count what the parent held when it started this process
    peak = found.get("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    return {"peak_rss": peak, "rss_anon": found.get("RssAnon"), "rss_file": found.get("RssFile")}


_UNIT = 1 if sys.platform == "darwin" else 1024


def _status() -> dict[str, int]:
    """The entries in kB of /proc/self/status, as bytes."""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file if line.rstrip().endswith(" kB")]
    except OSError:
        return {}
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines}
