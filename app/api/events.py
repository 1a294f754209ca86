"""Events: what has happened, read page by page and followed as it comes. Non-administrators see their owner's."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlencode
from uuid import UUID  # noqa: TC003  (pydantic reads the annotations)

from flask import jsonify, request
from pydantic import BeforeValidator, Field

from app.api.root import blueprint
from app.auth import current_caller, requires
from app.event_streams import Opening, only_headers, opened
from app.keyring import Permission
from app.limits import limited
from app.queries import Query, read_query
from app.times import Moment  # noqa: TC001  (as above)
from app.web import current_web
from core.errors import InvalidPosition
from models import feed
from models.events import BEGINNING, EventKind, Position
from models.feed import Wanted
from streams import event_feed, sse
from streams.event_feed import EventTail, checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.typing import ResponseReturnValue

    from app.web import Web

POLL_SECONDS: Final = 0.5


def _apart(names: list[str]) -> list[str]:
    """Take names one by one or between commas."""
    return [name for text in names for name in text.split(",")]


class Filter(Query):
    """Which events. `type`: repeatable."""

    type: Annotated[tuple[EventKind, ...], BeforeValidator(_apart)] = ()
    session_id: UUID | None = None

    def wanted(self) -> Wanted:
        """Return them, of those that the caller may see."""
        return Wanted(owner=current_caller().sees, kinds=frozenset(self.type) or None, session_id=self.session_id)


class Page(Filter):
    """GET /events. `since` (included) and `until` (not) are times of events."""

    since: Moment | None = None
    until: Moment | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


@blueprint.get("/events")
@requires(Permission.READ)
def list_events() -> ResponseReturnValue:
    """List events, oldest first. The last one's `position` is the next page's `after`: also when there is none yet."""
    page = read_query(Page)
    after = _after(request.args.get("after")) or BEGINNING
    plain = page.wanted()
    wanted = Wanted(plain.owner, plain.kinds, plain.session_id, page.since, page.until)
    with current_web().database.transaction() as tx:
        rows = feed.read(tx, after, wanted, limit=page.limit)
    shown = [feed.envelope(row) for row in rows]
    more = _next_page(shown[-1]["position"] or "") if len(shown) == page.limit else {}
    return jsonify(shown), more


@blueprint.get("/events/stream")
@requires(Permission.READ)
@limited("streaming")
def stream_events() -> ResponseReturnValue:
    """Follow events: behind a position, or from now on. It has no end."""
    web = current_web()
    wanted = read_query(Filter).wanted()
    place = _after(request.headers.get("Last-Event-ID") or request.args.get("after"))
    if request.method == "HEAD":
        return only_headers()
    with web.database.transaction() as tx:
        start = place or feed.end(tx)
    make = partial(EventTail, web.hub, web.events, start, wanted)
    pull = partial(_pulled, web, start, wanted)
    return opened(web, Opening("event.stream", checkpoint(start, first=True), make, web.events.admit, pull))


def _pulled(web: Web, place: Position, wanted: Wanted) -> Iterator[bytes]:
    """Yield events from a position on, until the process leaves."""
    said = web.clock.now()
    while not web.hub.leaving:
        rows, place = event_feed.read(web.database, place, wanted)
        for row in rows:
            yield event_feed.frame(row)
        if rows:
            said = web.clock.now()
            continue
        if web.clock.now() - said >= web.settings.heartbeat_seconds:
            said = web.clock.now()
            yield checkpoint(place)
        time.sleep(POLL_SECONDS)
    yield sse.GOODBYE


def _after(text: str | None) -> Position | None:
    """Return a position. Raises InvalidPosition."""
    try:
        return None if text is None else Position.read(text)
    except ValueError:
        raise InvalidPosition from None


def _next_page(after: str) -> dict[str, str]:
    args = [(name, value) for name, value in request.args.items(multi=True) if name != "after"]
    return {"Link": f'<{request.path}?{urlencode([*args, ("after", after)])}>; rel="next"'}
