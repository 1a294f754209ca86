"""Following sessions over Server-Sent Events: whether, and from where. How a stream is answered is `app.event_streams`'s."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from flask import request
from pydantic import AfterValidator, Field

from app.api.root import blueprint
from app.auth import current_caller, requires, requires_or_ticket
from app.converters import id_of
from app.event_streams import nothing_follows, of_sessions, only_headers, opened
from app.keyring import Permission
from app.limits import limited
from app.origin import about
from app.positions import start_of, starts_of
from app.queries import Query, read_query
from app.web import current_web
from models import sessions
from streams.entries import EntryKind
from streams.followers import EventStream
from streams.many import MOST_SESSIONS, Followed, ManyStream
from streams.pulling import pulled, pulled_many
from streams.ring import Wish, as_sse, as_sse_base64

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask.typing import ResponseReturnValue

    from app.positions import Start
    from models.database import Transaction
    from models.tables import Session


class Filter(Query):
    """What of a stream is wanted. `view`: output as text (plain: the same) or as the bytes that were printed, or all but output."""

    events: tuple[str, ...] = ()
    encoding: Literal["utf-8", "base64"] = "utf-8"
    view: Literal["text", "plain", "raw", "events"] = "text"

    @property
    def kinds(self) -> frozenset[EntryKind] | None:
        """Return the kinds of entries wanted; None: all. Names stand between commas; an unknown one matches nothing."""
        named = kinds_named(name for names in self.events for name in names.split(",")) if self.events else None
        if self.view != "events":
            return named
        return (frozenset(EntryKind) if named is None else named) - {EntryKind.OUTPUT}

    @property
    def as_bytes(self) -> bool:
        """Whether output is wanted as exact bytes."""
        return self.encoding == "base64" or self.view == "raw"

    def wish(self, start: Start) -> Wish:
        """Return what is wanted from a place on."""
        form = as_sse_base64 if self.as_bytes else as_sse
        return Wish(start.after, start.skip_to, self.kinds, form=form)


def _some(text: str) -> str:
    """Check that different sessions are named, and not too many."""
    names = text.split(",")
    if len(names) > MOST_SESSIONS:
        raise ValueError(f"names at most {MOST_SESSIONS} sessions")
    if len({name.lower() for name in names}) < len(names):
        raise ValueError("names a session twice")
    return text


class Several(Filter):
    """What of which sessions is wanted. `sessions`: their ids, with commas between them, at most 50."""

    sessions: Annotated[str, Field(min_length=1, max_length=37 * MOST_SESSIONS - 1), AfterValidator(_some)]

    @property
    def ids(self) -> list[UUID]:
        """Return the sessions, in order; a malformed id is the one that nothing has."""
        return [id_of(name) for name in self.sessions.split(",")]


def kinds_named(names: Iterable[str]) -> frozenset[EntryKind]:
    """Return the kinds of entries of these names."""
    wanted = {name.strip() for name in names}
    return frozenset(kind for kind in EntryKind if kind in wanted)


@blueprint.get("/sessions/<session_id:session_id>/stream")
@requires_or_ticket(Permission.READ)
@limited("streaming")
def stream_session(session_id: UUID) -> ResponseReturnValue:
    """Follow a session until after its end. No database connection is held meanwhile."""
    web = current_web()
    wanted = read_query(Filter)
    with web.database.transaction() as tx:
        session = sessions.visible(tx, session_id, current_caller().sees)
    start = start_of(web.log, session, request.headers, request.args)
    if start is None:
        return nothing_follows()
    if request.method == "HEAD":
        return only_headers()
    wish = wanted.wish(start)
    make = partial(EventStream, web.hub, session_id, wish)
    pull = partial(pulled, web.hub, session_id, wish)
    return opened(web, of_sessions(web, [session], make=make, admit=web.hub.admit, pull=pull))


@blueprint.get("/stream")
@requires(Permission.READ)
@limited("streaming")
def stream_sessions() -> ResponseReturnValue:
    """Follow several sessions in one stream, until after the end of all.

    Each event names its session in `session_id`. Its `id` is the number of the last entry of each session, in the order they were
    asked for, with commas between them: `Last-Event-ID` and `after` take that. `connected` comes once for each session.
    """
    web = current_web()
    wanted = read_query(Several)
    with web.database.transaction() as tx:
        found = [_visible(tx, session_id) for session_id in wanted.ids]
    starts = starts_of(web.log, found, request.headers, request.args)
    if not any(starts):
        return nothing_follows()
    if request.method == "HEAD":
        return only_headers()
    followed = [_followed(session, start, wanted) for session, start in zip(found, starts, strict=True)]
    make = partial(ManyStream, web.hub, followed)
    pull = partial(pulled_many, web.hub, followed)
    return opened(web, of_sessions(web, found, make=make, admit=web.hub.admit_many, pull=pull))


def _visible(tx: Transaction, session_id: UUID) -> Session:
    about(session_id)
    return sessions.visible(tx, session_id, current_caller().sees)


def _followed(session: Session, start: Start | None, wanted: Filter) -> Followed:
    if start is None:
        return Followed(session.id, session.last_seq, None)
    return Followed(session.id, start.after, wanted.wish(start))
