"""Connections over SSH, by paramiko. Host keys must be known; ~/.ssh/config and the agent are used as ssh uses them."""

from __future__ import annotations

import contextlib
import shlex
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from targets.errors import EdgertError, UsageError

from .remote import LIMIT, Address, ConnectionBroke, Done

CONNECT = 15  # seconds
STALL = 60  # seconds in which a device must take more bytes
NEVER = -1  # paramiko's exit code of what was cut off


class Ssh:
    """One connection, a channel for each command."""

    def __init__(self, address: Address, client: Any) -> None:
        self._address, self._client = address, client

    def run(self, words: Sequence[str], given: Iterable[bytes] = ()) -> Done:
        """See Remote."""
        import paramiko

        try:
            transport = self._client.get_transport()
            if transport is None:
                raise EOFError
            channel = transport.open_session(timeout=CONNECT)
            channel.settimeout(STALL)
            channel.exec_command(shlex.join(words))
            try:
                for part in given:
                    channel.sendall(part)
                channel.shutdown_write()
            except TimeoutError:
                raise
            except OSError:  # a program that has failed reads no more: its exit code tells
                pass
            channel.settimeout(LIMIT)
            output = _all(channel.recv)
            error = _all(channel.recv_stderr).decode(errors="replace")
            code = channel.recv_exit_status()
            channel.close()
        except (OSError, EOFError, paramiko.SSHException) as fault:
            raise self._broke(fault) from None
        if code == NEVER:
            raise self._broke(EOFError())
        return Done(code, output, error)

    def close(self) -> None:
        """See Remote."""
        self._client.close()

    def _broke(self, fault: Exception) -> ConnectionBroke:
        reason = f" ({fault})" if str(fault) else ""
        return ConnectionBroke(f"the connection to {self._address.host} broke{reason}")


def _all(receive: Any) -> bytes:
    parts = []
    while part := receive(1 << 16):
        parts.append(part)
    return b"".join(parts)


def open(address: Address) -> Ssh:
    """A connection to a host whose key is known."""
    try:
        import paramiko
    except ModuleNotFoundError:
        raise UsageError("ssh:// devices need the package paramiko: pip install 'edgert[ssh]'") from None
    found, folder = _config(paramiko, address.host), Path.home() / ".ssh"
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    host, port = found.get("hostname", address.host), address.port or int(found.get("port", 22))
    named = found.get("userknownhostsfile", str(folder / "known_hosts")).split()
    for path in ("/etc/ssh/ssh_known_hosts", *named):
        with contextlib.suppress(OSError):
            client.load_system_host_keys(str(Path(path).expanduser()))
    proxy = paramiko.ProxyCommand(found["proxycommand"]) if found.get("proxycommand", "none") != "none" else None
    try:
        client.connect(
            host,
            port,
            address.user or found.get("user"),
            timeout=CONNECT,
            banner_timeout=CONNECT,
            auth_timeout=CONNECT,
            key_filename=found.get("identityfile"),
            sock=proxy,
        )
    except paramiko.BadHostKeyException:
        raise EdgertError(
            f"{host}: its host key is not the one that is known: it may be another machine. If it was set up anew, "
            f"remove the old key: ssh-keygen -R {_known_as(host, port)}"
        ) from None
    except paramiko.AuthenticationException as error:
        raise EdgertError(f"{host}: it does not let this user in with the keys there are: {error}") from None
    except paramiko.SSHException as error:
        if "No authentication methods" in str(error):
            raise EdgertError(f"{host}: there is no key to log in with, in the agent or ~/.ssh") from None
        if "not found in known_hosts" in str(error):
            raise EdgertError(
                f"{host}: its host key is not known: connect once with ssh -p {port} {host} and accept it"
            ) from None
        raise EdgertError(f"{host}: no SSH connection: {error}") from None
    except (OSError, socket.gaierror, EOFError) as error:
        raise EdgertError(f"{host}: cannot be reached on port {port}: {error}") from None
    transport = client.get_transport()
    if transport is not None:
        transport.set_keepalive(CONNECT)
        if proxy is None:  # so that a device that vanished without a word is noticed
            transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * STALL)
    return Ssh(address, client)


def _known_as(host: str, port: int) -> str:
    return host if port == 22 else shlex.quote(f"[{host}]:{port}")


def _config(paramiko: Any, host: str) -> dict[str, Any]:
    """What the user's configuration says of a host."""
    try:
        return dict(paramiko.SSHConfig.from_path(str(Path.home() / ".ssh" / "config")).lookup(host))
    except OSError:
        return {}
    except Exception as error:
        raise UsageError(f"~/.ssh/config cannot be read: {error}") from None
