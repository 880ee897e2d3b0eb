"""Where rounds are measured: an artifact in, nanoseconds of each of its steps out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import edgert
from edgert.artifact import Artifact
from edgert.errors import EdgertError, UsageError
from edgert.interface.bench import random_inputs
from edgert.interface.model import open_model
from edgert.interface.simulated import open_simulated

RUNS = 15  # the best of so many counts: the others had company on the machine
PROFILE = "edgert.profile"  # the function that measuring servers have
PATIENCE = 120  # seconds until a device of the farm must be free, and that a round may take there
TRIES = 4  # devices that are tried for one round

Measure = Callable[[Path], list[int]]


def inputs_for(path: Path) -> dict[str, np.ndarray]:
    """Seeded inputs at their largest: small numbers, and zeros for integers (they may be indices)."""
    rng, found = np.random.default_rng(0), {}
    for tensor in Artifact.open(path, verify=False).spec.inputs:
        made = rng.standard_normal(tensor.max_shape) if "float" in tensor.dtype else np.zeros(tensor.max_shape)
        found[tensor.name] = made.astype(tensor.dtype)
    return found


def counted(path: Path, device: str) -> list[int]:
    """Instructions of each step on a simulated microcontroller."""
    with open_simulated(str(path), device) as model:
        return [int(step["instructions"]) for step in model.profile(random_inputs(model.manifest))]


def here(path: Path, device: str = "local", runs: int = RUNS) -> list[int]:
    """On one thread of a device by its URI."""
    with open_model(str(path), {}, {}, 1, device) as model:
        return [int(step["ns"]) for step in model.profile(inputs_for(path), runs)]


class Farm:
    """Devices of one kind behind a TVM RPC tracker, each with a measuring server (edgert/tuning/server.py)."""

    def __init__(self, address: str, key: str) -> None:
        """address: host:port of the tracker. Raises UsageError where there is none, or none of its devices is `key`."""
        self.host, self.port = parse_address(address)
        self.key = key
        self.devices = self._count()

    def _count(self) -> int:
        session = self._session()
        try:
            servers = session.summary()["server_info"]
        finally:
            session.close()
        found = sum(server["key"] == f"server:{self.key}" for server in servers)
        if not found:
            kinds = sorted({str(server["key"]).removeprefix("server:") for server in servers})
            there = f"there are {', '.join(kinds)}" if kinds else "it knows no device"
            raise UsageError(f"tracker {self.host}:{self.port} has no device of the kind {self.key!r}: {there}")
        return found

    def _session(self):  # type: ignore[no-untyped-def]  # tvm has no types
        try:
            from tvm.rpc.client import TrackerSession
        except ImportError as error:
            raise UsageError(f"--tracker needs pip install 'edgert[farm]' ({error})") from None
        import socket

        try:
            socket.create_connection((self.host, self.port), 5).close()  # tvm's own try takes a minute
            return TrackerSession((self.host, self.port))
        except (OSError, RuntimeError) as error:
            raise UsageError(f"no tracker at {self.host}:{self.port}: {error}") from None

    def measure(self, path: Path) -> list[int]:
        """On the next free device; on another one where it vanishes. Raises EdgertError when all tries fail."""
        data, reason = path.read_bytes(), ""
        for attempt in range(TRIES):
            session = self._session()
            try:
                session._sock.settimeout(PATIENCE)  # a tracker does not answer before a device is free
                remote = session.request(self.key, session_timeout=PATIENCE, max_retry=1)
                said = json.loads(str(remote.get_function(PROFILE)(data, RUNS)))
            except Exception as error:  # whatever broke between here and there: tvm raises many kinds
                reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
                time.sleep(0.2 * attempt)
                continue
            finally:
                session.close()
            if "error" in said:
                raise EdgertError(f"a device of the kind {self.key!r} cannot run this: {said['error']}")
            return [int(ns) for ns in said["ns"]]
        raise EdgertError(f"no device of the kind {self.key!r} measured a round in {TRIES} tries: {reason}")


def parse_address(address: str) -> tuple[str, int]:
    """host:port. Raises UsageError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"tracker {address!r}: give host:port")
    return host, int(port)


def profile_bytes(data: bytes, runs: int) -> str:
    """What a measuring server answers: JSON with the `ns` of each step of an artifact, or an `error`."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="edgert-") as folder:
        path = Path(folder) / "round.edge"
        path.write_bytes(data)
        try:
            with edgert.load(path, threads=1) as model:
                return json.dumps({"ns": [step["ns"] for step in model.profile(inputs_for(path), runs)]})
        except EdgertError as error:
            return json.dumps({"error": str(error)})
