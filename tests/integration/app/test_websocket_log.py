"""WebSockets of live and ended sessions, under gunicorn's gevent worker as they are served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.app.reading import events_of
from tests.integration.app.talking import talking

if TYPE_CHECKING:
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api


def test_a_socket_begins_with_the_session_and_ends_after_terminated(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    with talking(gevent, session_id) as talk:
        assert talk.connection.subprotocol == "jelmore.v1"
        info = talk.hear()
        assert (info["event"], info["session_id"], info["status"]) == ("session_info", str(session_id), "initializing")
        run = holder.run(session_id)
        run.write(b"one")
        assert talk.until("output")[-1]["content"] == "one"
        run.end()
        assert talk.rest()[-1]["event"] == "terminated"
        assert talk.code == 1000


def test_messages_say_what_events_say(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    run = holder.run(session_id)
    for line in (b"one\n", b"tw\xff\n", "dr\u00f6i\n".encode()):
        run.write(line)
    run.end()
    events = [event for event in events_of(gevent, session_id) if event.event != "connected"]

    with talking(gevent, session_id) as talk:
        talk.hear()
        messages = talk.rest()

    assert messages == [{"event": event.event, "seq": event.id, **event.data} for event in events]
