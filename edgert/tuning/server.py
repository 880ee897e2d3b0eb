"""A measuring server: `python -m edgert.tuning.server --tracker HOST:PORT --key KIND` on a device of a farm.

It is a TVM RPC server with one function more. Whoever reaches its port can run code here: keep it inside the farm.
"""

from __future__ import annotations

import sys

import click

from edgert.tuning.measure import PROFILE, parse_address


def register() -> None:
    """Makes the function known in this process."""
    import tvm_ffi

    from edgert.tuning.measure import profile_bytes

    @tvm_ffi.register_global_func(PROFILE, override=True)
    def profile(data: object, runs: int) -> str:
        return profile_bytes(bytes(data), runs)  # type: ignore[call-overload]


@click.command()
@click.option("--tracker", required=True, metavar="HOST:PORT", help="Where `python -m tvm.exec.rpc_tracker` runs.")
@click.option("--key", required=True, help="What kind of device this is: the name of its target.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on, as others see it.")
def main(tracker: str, key: str, host: str) -> None:
    """Serves until it is stopped."""
    try:
        from tvm import rpc
    except ImportError as error:
        raise click.ClickException(f"a measuring server needs pip install 'edgert[compiler,farm]' ({error})") from None
    server = rpc.Server(
        host, 9090, 9890, tracker_addr=parse_address(tracker), key=key, silent=True, server_init_callback=register
    )
    click.echo(f"measuring for {key} at {host}:{server.port}")
    sys.stdout.flush()
    sys.stdin.read()  # until whoever started it goes away


if __name__ == "__main__":
    main()
