"""`jelmore events`: follows Jelmore's events in NATS as one of a group, and prints each as a line of JSON.

The group is a durable consumer of NATS: it knows how far it has come, and shares what comes among its members. A message is
acknowledged when its line is written, so that one whose reader died comes again.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import nats
import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from core import urls
from jelmore.embedded import Nats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.settings import Settings

STREAM: Final = "JELMORE"
AT_ONCE: Final = 100
WAIT_SECONDS: Final = 5.0
NOTHING_SECONDS: Final = 0.5
"""When nothing comes for so long, nothing is left."""
ACK_WAIT_SECONDS: Final = 60
"""A message that nobody has acknowledged for so long goes to another member."""
CONNECT_SECONDS: Final = 5
GROUP: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What to follow. `start`: of a group that is new; empty: from the stream's beginning. `forever`: wait for what comes."""

    group: str
    start: str = ""
    kinds: Sequence[str] = ()
    forever: bool = True


def consume(settings: Settings, asked: Asked) -> None:
    """Print events until interrupted. Raises click's errors, each a sentence."""
    if not GROUP.fullmatch(asked.group):
        raise click.UsageError("--group: 1 to 64 letters, digits, _ and -.")
    config = _config(settings.nats_subject_prefix, asked)
    try:
        asyncio.run(_consume(settings, asked, config))
    except (BrokenPipeError, KeyboardInterrupt):
        # Whoever read is gone: what is not acknowledged comes again. Nothing may be flushed to it at our end.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (nats.errors.Error, OSError) as fault:
        raise click.ClickException(urls.without_secrets(f"NATS: {str(fault) or repr(fault)}")) from None


async def _consume(settings: Settings, asked: Asked, config: api.ConsumerConfig) -> None:
    async def noted(fault: Exception) -> None:
        click.echo(urls.without_secrets(f"NATS: {str(fault) or repr(fault)}"), err=True)

    options: dict[str, Any] = {"user_credentials": os.fspath(settings.nats_creds)} if settings.nats_creds else {}
    addresses = [server.strip() for server in address(settings).split(",")]
    opening = nats.connect(
        addresses, name="jelmore events", error_cb=noted, max_reconnect_attempts=-1, connect_timeout=2, **options
    )
    try:
        connection = await asyncio.wait_for(opening, CONNECT_SECONDS)
    except TimeoutError:
        raise click.ClickException("NATS does not answer.") from None
    try:
        context = connection.jetstream()
        await _join(context, asked, config)
        pull = await context.pull_subscribe_bind(asked.group, stream=STREAM)
        while await _printed(pull, WAIT_SECONDS if asked.forever else NOTHING_SECONDS) or asked.forever:
            pass
    finally:
        with suppress(Exception):
            await asyncio.wait_for(connection.close(), CONNECT_SECONDS)


async def _join(context: Any, asked: Asked, config: api.ConsumerConfig) -> None:
    """Make the group, or find it; where it has begun, and what it takes, was said by whoever made it."""
    try:
        there = (await context.consumer_info(STREAM, asked.group)).config
    except NotFoundError:
        there = None
    if there is not None:
        if asked.start:
            raise click.UsageError(
                f"Group {asked.group} is there already and goes on where it was: --from is for a new one."
            )
        if asked.kinds and _subjects(there) != _subjects(config):
            raise click.UsageError(f"Group {asked.group} takes other types of events: {', '.join(_subjects(there))}.")
        return
    try:
        await context.add_consumer(STREAM, config)
    except NotFoundError:
        raise click.ClickException(
            f"NATS has no stream {STREAM} yet: is a mirror running, with this NATS_URL?"
        ) from None
    except APIError as refused:
        raise click.ClickException(f"NATS refuses the group: {refused.description}.") from None


async def _printed(pull: Any, seconds: float) -> bool:
    """Print what comes next; return whether anything came."""
    try:
        messages = await pull.fetch(AT_ONCE, timeout=seconds)
    except (TimeoutError, nats.errors.ConnectionClosedError, APIError):  # nats-py has both its own and asyncio's
        return False
    for message in messages:
        sys.stdout.buffer.write(message.data + b"\n")
        sys.stdout.buffer.flush()
        await message.ack()
    return True


def address(settings: Settings) -> str:
    """Return where NATS is: NATS_URL, or what `jelmore up` runs in JELMORE_HOME."""
    if settings.nats_url is not None:
        return settings.nats_url
    embedded = Nats(settings.jelmore_home)
    if embedded.answers():
        return embedded.url
    raise click.ClickException("NATS_URL is not set, and no NATS of jelmore up runs in JELMORE_HOME.")


def _config(prefix: str, asked: Asked) -> api.ConsumerConfig:
    subjects = [f"{prefix}.{kind}" for kind in asked.kinds]
    return api.ConsumerConfig(
        durable_name=asked.group,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        filter_subjects=subjects or None,
        **_start(asked.start),
    )


def _start(text: str) -> dict[str, Any]:
    if not text:
        return {"deliver_policy": api.DeliverPolicy.ALL}
    if text == "now":
        return {"deliver_policy": api.DeliverPolicy.NEW}
    if text.isascii() and text.isdigit() and int(text) > 0:
        return {"deliver_policy": api.DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": int(text)}
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError("--from: a time (2030-01-31T12:00:00Z), a sequence (1, 2, 3 …), or now.") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return {"deliver_policy": api.DeliverPolicy.BY_START_TIME, "opt_start_time": at.astimezone(UTC)}


def _subjects(config: api.ConsumerConfig) -> list[str]:
    one = [config.filter_subject] if config.filter_subject else []
    return sorted(config.filter_subjects or one)
