"""A real sshd on loopback, for as long as a test session, and a proxy before it that cuts connections."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Sshd:
    """The server of `port`; `home` has the .ssh folder of a user whom it lets in."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def start(self) -> None:
        ssh = self.home / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        for path in (self.folder / "host_key", ssh / "id_ed25519"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        (ssh / "authorized_keys").write_bytes((ssh / "id_ed25519.pub").read_bytes())
        self.know()
        options = {
            "Port": self.port, "ListenAddress": "127.0.0.1", "HostKey": self.folder / "host_key", "UsePAM": "no",
            "AuthorizedKeysFile": ssh / "authorized_keys", "PidFile": self.folder / "pid", "StrictModes": "no",
            "PasswordAuthentication": "no", "PermitRootLogin": "prohibit-password", "LogLevel": "ERROR",
            "KbdInteractiveAuthentication": "no",
        }  # fmt: skip
        (self.folder / "config").write_text("".join(f"{key} {value}\n" for key, value in options.items()))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        assert PROGRAM is not None
        self.process = subprocess.Popen([PROGRAM, "-D", "-e", "-f", self.folder / "config"], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with socket.socket() as tried:
                if not tried.connect_ex(("127.0.0.1", self.port)):
                    return
            time.sleep(0.02)
        raise RuntimeError("sshd does not answer")

    def know(self, port: int | None = None) -> None:
        """Add the host key for `port` to what the user knows."""
        kind, key, *_ = (self.folder / "host_key.pub").read_text().split()
        with (self.home / ".ssh" / "known_hosts").open("a") as file:
            file.write(f"[127.0.0.1]:{port or self.port} {kind} {key}\n")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)


class Proxy:
    """Hands bytes on to the server; the connection is cut after `limit` bytes from the client, if there is one."""

    def __init__(self, port: int) -> None:
        self.target, self.limit, self.passed = port, None, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    limit: int | None

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self.passed = 0
            threading.Thread(target=self._copy, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, False), daemon=True).start()

    def _copy(self, source: socket.socket, to: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                if counted and self.limit is not None:
                    data = data[: max(0, self.limit - self.passed)]
                to.sendall(data)
                if counted:
                    self.passed += len(data)
                    if self.limit is not None and self.passed >= self.limit:
                        break
        for end in (source, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
