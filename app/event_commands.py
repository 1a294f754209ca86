"""`flask events republish`: has events of a range sent to NATS again, with the ids they had.

flask --app app:create_app events republish --from 2030-01-31T12:00:00Z --to 2030-01-31T13:00:00Z
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

import click
from flask.cli import AppGroup

from app.commands import told
from app.times import moment
from app.web import current_web
from core.errors import NotFound, ValidationFailed
from models import feed, mirroring
from models.events import BEGINNING, Position
from models.feed import Wanted

if TYPE_CHECKING:
    from datetime import datetime

    from models.database import Transaction

BATCH: Final = 2000
LAST: Final = Position(2**62, 0)

events = AppGroup("events", help="Events and their copy in NATS.")


@events.command("republish")
@click.option("--from", "start", required=True, help="A time, an event_id, or a position.")
@click.option("--to", "end", help="The same; a time is not included, an event is. Default: all that follow.")
@told
def republish(start: str, end: str | None) -> None:
    """Have the mirror send events again: NATS leaves out those it has had within its duplicate window."""
    database = current_web().database
    with database.transaction() as tx:
        since, after = _place(tx, start, "--from")
        until, last = (None, LAST) if end is None else _place(tx, end, "--to")
        last = min(last, feed.end(tx)) if last > BEGINNING else feed.end(tx)
    count, place = 0, Position(after.transaction, after.number - 1)
    while True:
        with database.transaction() as tx:
            rows = feed.read(tx, place, Wanted(since=since, until=until), limit=BATCH)
            chosen = [row.id for row in rows if feed.position(row) <= last]
            count += mirroring.republish(tx, chosen)
        if len(chosen) < BATCH:
            break
        place = feed.position(rows[-1])
    click.echo(f"{count} events will be published again.")


def _place(tx: Transaction, text: str, option: str) -> tuple[datetime | None, Position]:
    """Return a time, or a position; where it is a time, the position is before all."""
    try:
        return None, Position.read(text)
    except ValueError:
        pass
    try:
        place = feed.place_of(tx, UUID(text))
    except ValueError:
        pass
    else:
        if place is None:
            raise NotFound("There is no event of this id.")
        return None, place
    try:
        return moment(text), BEGINNING
    except ValueError:
        raise ValidationFailed(errors=[{"loc": [option], "msg": "must be a time, an event_id or a position"}]) from None
