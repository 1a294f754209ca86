"""GET /sessions/{id}/output.cast: what a terminal showed, for players."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from flask import Response

from app.api.root import blueprint
from app.auth import current_caller, requires
from app.keyring import Permission
from app.web import current_web
from core.errors import NoTerminal
from models import inputs, sessions
from streams import cast
from streams.cast import Resize, Size
from streams.entries import timestamp_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.typing import ResponseReturnValue

    from app.web import Web
    from models.tables import Session
    from streams.entries import Entry


@blueprint.get("/sessions/<session_id:session_id>/output.cast")
@requires(Permission.READ)
def show_recording(session_id: UUID) -> ResponseReturnValue:
    """Show what a terminal has shown up to now as an asciicast (version 2), with its resizes, for players like asciinema's."""
    web = current_web()
    with web.database.transaction() as tx:
        session = sessions.visible(tx, session_id, current_caller().sees)
        asked = inputs.resizes(tx, session_id)
    if session.terminal is None:
        raise NoTerminal
    resizes = [
        Resize(each.output_offset, timestamp_ms(each.written_at), Size(each.detail["cols"], each.detail["rows"]))
        for each in asked
    ]
    first = asked[0].detail.get("was", session.terminal) if asked else session.terminal
    began_ms = timestamp_ms(session.started_at or session.created_at)
    head = cast.header(Size(first["cols"], first["rows"]), began_ms, f"session {session_id}")
    entries = _entries(web, session)
    lines = cast.events(entries, resizes, began_ms)
    return Response(_with(head, lines), mimetype=cast.MIME_TYPE)


def _with(head: bytes, lines: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from lines


def _entries(web: Web, session: Session) -> Iterator[Entry]:
    """Yield all entries there are now, a page in memory at a time."""
    seq, ended = 0, session.ended_at is not None
    while True:
        reading = web.log.read(session.id, seq, ended=ended)
        yield from reading.entries
        if reading.ended or not reading.entries:
            return
        seq = reading.entries[-1].seq
