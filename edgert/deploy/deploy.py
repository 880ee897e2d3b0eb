"""Put an artifact on a device, so that at every moment the old one or the new one is there and works."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from edgert.artifact import Artifact
from edgert.deploy.device import Device, Progress, Sent, golden_words
from edgert.errors import EdgertError, UsageError
from targets.devices.remote import ConnectionBroke


@dataclass(frozen=True)
class Deployed:
    """What `edgert deploy` did. Bytes: of the artifact, sent, copied on the device from the artifact that was there,
    there already from a broken transfer. said: the device's words on the outputs, a line each."""

    name: str
    device: str
    path: str
    bytes: int
    sent_bytes: int
    copied_bytes: int
    resumed_bytes: int
    runner_sent: bool
    seconds: float
    said: list[str]


def deploy(path: str, uri: str, progress: Progress | None = None) -> Deployed:
    """Put the artifact at `path` into the folder of `uri`, run it there, and only then let it take its place.

    What the device has of it already is not sent. Raises UsageError for a wrong URI, DoesNotFit before anything is
    sent, ConnectionBroke (do it again: it goes on where it stopped) or EdgertError; the old artifact stays then."""
    start, new = time.perf_counter(), Artifact.open(path)
    with Device(uri, progress) as device:
        try:
            sent, said = put(device, new)
        except ConnectionBroke as error:
            raise ConnectionBroke(
                f"{error}; what was there before stays, and the same command goes on where this one stopped"
            ) from None
        return Deployed(
            new.spec.name, uri, device.path(new.path.name), len(new.file), sent.sent, sent.copied, sent.resumed,
            device.runner_sent, time.perf_counter() - start, said,
        )  # fmt: skip


def put(device: Device, new: Artifact, run: bool = True) -> tuple[Sent, list[str]]:
    """The artifact on the device, under its file's name; what was sent, and what its first run there said.

    run: also where the very same artifact lies there already."""
    name, words = new.path.name, golden_words(new.manifest)
    if name.startswith((".", "-")) or "\n" in name:
        raise UsageError(f"{name!r} is no name for an artifact on a device: rename it")
    digest = hashlib.sha256(new.file).hexdigest()
    part, old = device.part(name, digest), device.old(name)
    if old is not None and old.manifest == new.manifest:
        device.check(new, part, fresh=False)
        try:
            said = device.call(device.path(name), *words).decode().splitlines() if run else []
            return Sent(0, 0, 0), said
        except ConnectionBroke:
            raise
        except EdgertError as error:
            if "damaged" not in str(error):
                raise
            old = None  # its bytes are not what its manifest says: all comes anew
    for last in (False, True):
        there = device.check(new, part)
        sent = device.send(new, part, old, name, min(there, len(new.file)))
        try:
            said = device.call(part, *words).decode().splitlines()
            device.install(part, name, digest)
            return sent, said
        except ConnectionBroke:
            raise
        except EdgertError as error:
            device.remove(part)
            if last or "damaged" not in str(error):
                raise
            old = None  # what lay there was not what it should be: all comes anew
    raise AssertionError


@dataclass(frozen=True)
class RolledBack:
    """Where the artifact is that took its old place again."""

    device: str
    path: str


def roll_back(path: str, uri: str) -> RolledBack:
    """Exchange the artifact with the file name of `path` and the one that it replaced."""
    with Device(uri) as device:
        device.roll_back(Path(path).name)
        return RolledBack(uri, device.path(Path(path).name))
