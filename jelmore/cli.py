"""The `jelmore` command."""

from __future__ import annotations

import sys

import click

from core.errors import ConfigurationError
from core.privacy import close_memory
from core.settings import environment
from core.version import VERSION


@click.group()
@click.version_option(VERSION)
def main() -> None:
    """Sessions for interactive processes, behind an HTTP API."""


@main.command()
@click.option("--home", help="Directory for data and secrets (JELMORE_HOME, default .jelmore).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (PORT, default 8000 or a free one).")
def up(home: str | None, port: int | None) -> None:
    """Start Jelmore and every server it needs on this machine; Ctrl-C stops it all."""
    # Here, for `jelmore --help` needs none of it.
    from jelmore.console import Console
    from jelmore.embedded import ServerFailed
    from jelmore.home import CannotStart
    from jelmore.up import Up

    close_memory()  # it hands every secret on
    environ = environment()
    if home:
        environ["JELMORE_HOME"] = home
    if port:
        environ["PORT"] = str(port)
        environ.setdefault("API_HOST", "127.0.0.1")
    colour = sys.stdout.isatty() and not environ.get("NO_COLOR")
    console = Console(colour=colour)
    try:
        Up(environ, console).run()
    except (CannotStart, ServerFailed, ConfigurationError) as why:
        raise click.ClickException(str(why)) from None
