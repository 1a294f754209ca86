"""The `jelmore` command."""

from __future__ import annotations

import sys

import click

from core.errors import ConfigurationError
from core.privacy import close_memory
from core.settings import environment, load_settings
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


@main.command()
@click.option("--group", required=True, help="Name of the group: it remembers how far it is, and shares what comes.")
@click.option("--from", "start", default="", help="Where a new group begins: a time, a sequence of the stream, or now.")
@click.option("--type", "kinds", multiple=True, help="Only events of this type (session.created); repeatable.")
@click.option("--no-follow", is_flag=True, help="Leave when nothing is left.")
def events(group: str, start: str, kinds: tuple[str, ...], no_follow: bool) -> None:
    """Print events from NATS as lines of JSON, each at least once: acknowledged when its line is written."""
    from jelmore.consumer import Asked, consume

    close_memory()
    try:
        settings = load_settings()
    except ConfigurationError as why:
        raise click.ClickException(str(why)) from None
    consume(settings, Asked(group, start, kinds, forever=not no_follow))


@main.command()
@click.option(
    "--url", help="Where people reach the service, through the real proxy (JELMORE_URL). The key: JELMORE_API_KEY."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--program", default="shell", show_default=True, help="Program of the canary: one that prints what it is sent."
)
@click.option(
    "--idle",
    "idle_seconds",
    type=click.FloatRange(0, 600),
    default=25.0,
    show_default=True,
    help="Seconds the canary keeps silent, at most, to find out who cuts silent connections.",
)
@click.option("--no-canary", is_flag=True, help="Send no canary session: no key is needed.")
def doctor(url: str | None, as_json: bool, program: str, idle_seconds: float, no_canary: bool) -> None:
    """Say what is wrong: of configuration, servers, migrations, clocks, processes, and of the way through the proxy.

    With the service's environment (DATABASE_URL, REDIS_URL ...) it looks from inside, with an address from outside, with both at
    both; beside a running jelmore up it knows where that is. Exit code 0: all is well; 1: something is wrong; 2: asked wrongly.
    """
    from jelmore.doctor import report
    from jelmore.doctor.rounds import Wanted, rounds

    close_memory()
    findings = rounds(environment(), Wanted(url, program, idle_seconds, canary=not no_canary))
    click.echo(report.as_json(findings) if as_json else report.as_text(findings))
    sys.exit(0 if report.is_well(findings) else 1)
