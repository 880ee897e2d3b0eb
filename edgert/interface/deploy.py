"""What `edgert deploy` says."""

from __future__ import annotations

import click

from edgert.deploy.deploy import Deployed, RolledBack
from edgert.units import format_bytes


def deploy_text(result: Deployed) -> None:
    """What was sent, what the device said."""
    for line in result.said:
        click.echo(line)
    parts = [f"{format_bytes(result.sent_bytes)} of {format_bytes(result.bytes)} sent"]
    if result.copied_bytes:
        parts.append(f"{format_bytes(result.copied_bytes)} copied from the one before")
    if result.resumed_bytes:
        parts.append(f"{format_bytes(result.resumed_bytes)} were there from a broken transfer")
    if result.runner_sent:
        parts.append("with the runner")
    click.echo(f"{result.name} is {result.path} on {result.device}: {', '.join(parts)}, {result.seconds:.1f} s")


def rollback_text(result: RolledBack) -> None:
    """One line."""
    click.echo(f"{result.path} on {result.device} is the previous one again")
