"""The bodies of the tasks: they unwrap ids and call the worker they run in."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from tasks.celery import app
from tasks.queue import LOOK, NUDGE, RUN
from tasks.runtime import current

if TYPE_CHECKING:
    from celery import Task


@app.task(name=RUN, bind=True, ignore_result=True)
def run(self: Task[[str], None], session_id: str) -> None:
    """Run a session, or leave it to whoever has it. Lasts as long as the session, so that Flower shows it."""
    current().run(UUID(session_id), str(self.request.id))


@app.task(name=LOOK, ignore_result=True)
def look(session_id: str) -> None:
    """There is something in a session's mailbox."""
    current().host.look([UUID(session_id)])


@app.task(name=NUDGE, ignore_result=True)
def nudge() -> None:
    """Nothing: its arrival wakes the consumer from its wait for messages."""
