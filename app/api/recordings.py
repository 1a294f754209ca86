"""GET /sessions/{id}/output.cast: what a terminal showed, for players."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from flask import Response

from app.api.root import blueprint
from app.auth import current_caller, requires
from app.keyring import Permission
from app.web import current_web
from core.errors import NoTerminal, OutputExpired
from models import inputs, sessions
from streams import cast, output
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
    size = asked[0].detail.get("was", session.terminal) if asked else session.terminal
    began_ms = timestamp_ms(session.started_at or session.created_at)
    head = cast.header(Size(size["cols"], size["rows"]), began_ms, f"session {session_id}")
    lines = cast.events(_entries(web, session), resizes, began_ms)
    first = next(lines, b"")  # while there is still a status to say what is wrong
    return Response(chain((head, first), lines), mimetype=cast.MIME_TYPE)


def _entries(web: Web, session: Session) -> Iterator[Entry]:
    """Yield all entries there are now, a page in memory at a time. Raises OutputExpired if some are gone."""
    seq, end, ended = 0, 0, session.ended_at is not None
    while True:
        reading = web.log.read(session.id, seq, ended=ended)
        for entry in reading.entries:
            if output.begin(entry) > end:
                raise OutputExpired
            end = entry.end_offset if entry.is_output else end
            yield entry
        if reading.ended or not reading.entries:
            return
        seq = reading.entries[-1].seq
