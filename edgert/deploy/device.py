"""A device with the native runner on it: what it is, what lies there, how an artifact gets there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Self

from edgert.artifact import Artifact
from edgert.cpu import triple_architecture
from edgert.deploy.delta import Old, messages, pieces
from edgert.errors import DoesNotFit, EdgertError, UsageError
from edgert.native.runner import runner
from edgert.units import format_bytes
from targets.devices.remote import Done, connect, parse_address

Progress = Callable[[str, int, int], None]
OWN = ".edgert"  # the folder beside the artifacts for the runner and for what has not arrived whole
MACHINES = {"armv7l": "armv7", "armv8l": "armv7", "amd64": "x86_64", "arm64": "aarch64"}  # as uname says -> as we say
_SPARE = 1 << 20  # bytes of disk that stay free
_LOOK = 'uname -m; ls -- "$1" 2>/dev/null; true'
# $1: the folder, $2: the runner, $3: its size, which is compared as a broken connection ends the input early.
_PUT = """mkdir -p -- "$1" || exit 1
cat >"$2.part" && test $(($(wc -c <"$2.part"))) -eq "$3" && chmod 755 "$2.part" && mv "$2.part" "$2" && exit 0
rm -f "$2.part"; exit 1"""
_ERRORS = {error.exit_code: error for error in (EdgertError, UsageError, DoesNotFit)}


@dataclass(frozen=True)
class Machine:
    """A device: its architecture, its processor's features, cores; bytes of memory and of disk that are free."""

    machine: str
    features: frozenset[str]
    cores: int
    memory: int
    disk: int


@dataclass(frozen=True)
class Sent:
    """Bytes: sent, copied from the artifact that was there, there already from a transfer that broke."""

    sent: int
    copied: int
    resumed: int


class Device:
    """An open connection to a device, and the runner there."""

    def __init__(self, uri: str, progress: Progress | None = None) -> None:
        """Connect, and send the runner where the device has none. Raises EdgertError saying why that fails."""
        self.address, self._progress = parse_address(uri), progress
        self.remote = connect(self.address)
        try:
            self._prepare()
        except BaseException:
            self.remote.close()
            raise

    def _prepare(self) -> None:
        self.folder = PurePosixPath(self.address.folder)
        own = str(self.folder / OWN)
        named, *there = self._command(["sh", "-c", _LOOK, "sh", own]).output.decode(errors="replace").splitlines()
        self.machine = MACHINES.get(named, named)
        program = runner(self.machine)
        name = f"edgert-run-{hashlib.sha256(program).hexdigest()[:16]}"
        self.runner, self.runner_sent = f"{own}/{name}", name not in there
        if self.runner_sent:
            words = ["sh", "-c", _PUT, "sh", own, self.runner, str(len(program))]
            self._command(words, self._shown("send the runner", [program], len(program)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """End the connection."""
        self.remote.close()

    def call(self, *words: str, given: Iterable[bytes] = ()) -> bytes:
        """What the runner says to these words. Raises the error that its exit code stands for, with its words."""
        return self._command([self.runner, *words], given).output

    def _command(self, words: Sequence[str], given: Iterable[bytes] = ()) -> Done:
        done = self.remote.run(words, given)
        if done.code:
            words = done.error or done.output[-500:].decode(errors="replace")
            said = " ".join(words.split()).removeprefix("edgert-run: ")[:500] or f"a program ended with {done.code}"
            raise _ERRORS.get(done.code, EdgertError)(f"{self.address.host or 'device'}: {said}")
        return done

    def _shown(self, stage: str, parts: Iterable[bytes], total: int) -> Iterator[bytes]:
        done = 0
        for part in parts:
            yield part
            done += len(part)
            if self._progress:
                self._progress(stage, done, total)

    def path(self, name: str) -> str:
        """Of an artifact on the device."""
        return str(self.folder / name)

    def about(self, part: str = "") -> tuple[Machine, int]:
        """What the device is and has now, and how many bytes of the file `part` are there."""
        found = json.loads(self.call("--machine", str(self.folder), *([part] if part else [])))
        keys = ("cores", "memory", "disk")
        return Machine(found["machine"], frozenset(found["features"]), *(found[key] for key in keys)), found["part"]

    def old(self, name: str) -> Old | None:
        """The artifact of that name there; None where there is none that can be read."""
        done = self.remote.run([self.runner, "--members", self.path(name)])
        try:
            found = json.loads(done.output)
        except ValueError:
            return None
        return None if done.code else Old(found["manifest"], found["members"])

    def part(self, name: str, digest: str) -> str:
        """Where an artifact arrives, by its hash, so that a transfer goes on only with the same file."""
        return str(self.folder / OWN / f"{name}.{digest[:16]}.part")

    def check(self, new: Artifact, part: str, fresh: bool = True) -> int:
        """Raise before anything is sent where the device cannot run the artifact, or has no room for it. Gives the
        bytes of `part` that are there. fresh: it is to be sent."""
        spec, (machine, there) = new.spec, self.about(part)
        where, wanted = self.address.host or self.address.uri, triple_architecture(spec.triple)
        if wanted != machine.machine:
            raise EdgertError(
                f"{new.path}: compiled for {wanted}, {where} is {machine.machine}: compile with another --target"
            )
        if lacking := [name for name in spec.features if name not in machine.features]:
            raise EdgertError(
                f"{new.path}: needs {', '.join(lacking)}, which {where} lacks: compile with another --target"
            )
        if "device" in new.manifest:
            raise EdgertError(f"{new.path}: compiled for a graphics processor, which the runner does not use: compile "
                              "with another --target")  # fmt: skip
        need = spec.arena_bytes + sum(t.bytes for t in (*spec.inputs, *spec.outputs) if t.name not in spec.state)
        if machine.memory and need > machine.memory:
            raise DoesNotFit(
                f"{new.path}: needs {need} bytes of memory (arena, inputs and outputs), free on {where} are "
                f"{machine.memory} ({format_bytes(machine.memory)})", need=need, have=machine.memory,
            )  # fmt: skip
        room = len(new.file) - there + _SPARE
        if fresh and room > machine.disk:
            raise DoesNotFit(
                f"{new.path}: needs {room} bytes of disk on {where}, free are {machine.disk} "
                f"({format_bytes(machine.disk)})", need=room, have=machine.disk,
            )  # fmt: skip
        return there

    def send(self, new: Artifact, part: str, old: Old | None, name: str, there: int) -> Sent:
        """Make `part` the new artifact, of which `there` bytes lie there. Raises ConnectionBroke; what came is kept."""
        todo = pieces(new, old, there)
        total = sum(piece.size for piece in todo if piece.source is None)
        copied = sum(piece.size for piece in todo) - total
        self.call(
            "--assemble", part, self.path(name), str(there), given=self._shown("send", messages(new, todo), total)
        )
        return Sent(total, copied, there)

    def remove(self, part: str) -> None:
        """Forget what arrived."""
        self.remote.run(["rm", "-f", "--", part])

    def install(self, part: str, name: str, digest: str) -> None:
        """Put `part`, once its hash was checked there, in the artifact's place; that one stays as the previous."""
        self.call("--install", part, self.path(name), digest)

    def roll_back(self, name: str) -> None:
        """Exchange the artifact and the previous one."""
        self.call("--rollback", self.path(name))


def golden_words(manifest: dict[str, Any]) -> list[str]:
    """The runner's options for a first run of an artifact: against its recorded outputs where it has some."""
    if "decoder" in manifest:
        return ["--ids", "0", "--max-tokens", "1", "--context", "2"]
    recorded = any(name.startswith("golden/out/") for name in manifest["members"])
    return ["--verify"] if recorded else ["--time", "1"]
