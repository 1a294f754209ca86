"""The bodies of the tasks: they unwrap ids and call the worker they run in.

While a new version is rolled out two send messages to one queue: a body takes the one argument it knows and ignores the
rest. Whatever else lies in the queue costs a line in the log, never a slot: the slot was taken when the message came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from tasks.celery import app
from tasks.queue import LOOK, NUDGE, RUN
from tasks.runtime import current

if TYPE_CHECKING:
    from celery import Task

log = structlog.get_logger(__name__)


@app.task(name=RUN, bind=True, ignore_result=True)
def run(self: Task[Any, Any], /, session_id: object = None, *_: object, **__: object) -> None:
    """Run a session, or leave it to whoever has it. Lasts as long as the session, so that Flower shows it."""
    if wanted := _session_in(session_id):
        log.info("start received", session_id=str(wanted))
        current().run(wanted, str(self.request.id))
    else:
        current().capacity.release()


@app.task(name=LOOK, ignore_result=True)
def look(session_id: object = None, *_: object, **__: object) -> None:
    """There is something in a session's mailbox."""
    if wanted := _session_in(session_id):
        log.debug("bell received", session_id=str(wanted))
        current().host.look([wanted])


@app.task(name=NUDGE, ignore_result=True)
def nudge(*_: object, **__: object) -> None:
    """Nothing: its arrival wakes the consumer from its wait for messages."""


def _session_in(said: object) -> UUID | None:
    """Return the session a message names; None, and a line in the log, if it names none."""
    if isinstance(said, str):
        try:
            return UUID(said)
        except ValueError:
            pass
    log.warning("a message that names no session is dropped", said=str(said)[:100])
    return None
