"""GET /stream: several sessions in one stream of Server-Sent Events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

from flask import Response, request
from pydantic import Field

from app.api.root import blueprint
from app.api.streams import HEADERS, Filter, nothing_follows
from app.auth import current_caller, requires
from app.keyring import Permission
from app.limits import limited
from app.origin import note
from app.positions import starts_of
from app.queries import read_query
from app.served import at_ms, serve
from app.web import current_web
from core.errors import ValidationFailed
from models import sessions
from streams import sse
from streams.pulling_many import Strand, pulled_many
from streams.ring import Wish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flask.typing import ResponseReturnValue

    from app.open_streams import Place
    from app.positions import Start
    from app.web import Web
    from models.tables import Session

MOST: Final = 50
ONE: Final = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


class Wanted(Filter):
    """`sessions`: their ids, with commas between them."""

    sessions: Annotated[str, Field(pattern=f"^{ONE}(,{ONE}){{0,{MOST - 1}}}$")]


@blueprint.get("/stream")
@requires(Permission.READ)
@limited("streaming")
def stream_sessions() -> ResponseReturnValue:
    """Follow up to 50 sessions in one stream, until all of them have ended.

    Events are those of one session's stream, with a `session_id` each. An `id` is the numbers of all sessions, in the order they
    were asked for, with commas between them, and goes on behind all of them as `Last-Event-ID` or `after`. Each session takes a
    place of `MAX_STREAMS`.
    """
    web, wanted = current_web(), read_query(Wanted)
    followed = _followed(web, wanted.sessions)
    strands = _strands(followed, starts_of(web.log, followed, request.headers, request.args), wanted)
    if all(strand.is_over for strand in strands):
        return nothing_follows()
    if request.method == "HEAD":
        return Response(iter(()), headers=HEADERS)  # an iterator: a stream has no length
    places = _enter(web, followed)
    try:
        with web.database.transaction() as tx:
            for session in followed:
                note(tx, "session.stream", session.id, at=web.clock.at())
    except BaseException:
        _leave(places)
        raise

    def pull() -> Iterator[bytes]:
        for strand in strands:
            yield sse.connected(strand.session_id, at_ms(web))
        yield from pulled_many(web.hub, strands, as_base64=wanted.encoding == "base64")

    return serve(web, places, pull, HEADERS, sessions=len(strands))


def _followed(web: Web, ids: str) -> list[Session]:
    """Return the sessions that are meant. Raises ValidationFailed, SessionNotFound."""
    wanted = [UUID(each) for each in ids.split(",")]
    if len(set(wanted)) < len(wanted):
        raise ValidationFailed(errors=[{"loc": ["sessions"], "msg": "names a session twice", "type": "repeated"}])
    with web.database.transaction() as tx:
        return [sessions.visible(tx, each, current_caller().sees) for each in wanted]


def _strands(followed: Sequence[Session], starts: Sequence[Start | None], wanted: Wanted) -> list[Strand]:
    return [
        Strand(session.id, Wish(), session.last_seq, is_over=True)
        if start is None
        else Strand(session.id, Wish(start.after, start.skip_to, wanted.kinds), start.after, is_over=False)
        for session, start in zip(followed, starts, strict=True)
    ]


def _enter(web: Web, followed: Sequence[Session]) -> list[Place]:
    """Take a place for each session; only the first holds a connection. Raises TooManyStreamsOfKey or TooManyStreams."""
    places: list[Place] = []
    try:
        for session in followed:
            places.append(web.streams.enter(session, current_caller().identity, holds=not places))
    except BaseException:
        _leave(places)
        raise
    return places


def _leave(places: Sequence[Place]) -> None:
    for place in places:
        place.leave()
