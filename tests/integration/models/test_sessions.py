"""Opening and seeing sessions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from core.errors import SessionNotFound, TooManySessions
from core.ids import uuid7
from core.settings import load_settings
from models import backlog, openings, sessions
from models.database import Database
from models.openings import Caps, NewSession
from models.tables import Event

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from models.tables import Session


def test_a_cap_is_exact_under_concurrency(database: Database, at: datetime) -> None:
    owner = str(uuid7())

    def create(_: int) -> bool:
        try:
            with database.transaction() as tx:
                openings.open_session(tx, NewSession(owner, "key", "shell", "x", 60), Caps(None, per_owner=5), at=at)
        except TooManySessions:
            return False
        return True

    with ThreadPoolExecutor(16) as crowd:
        assert sum(crowd.map(create, range(32))) == 5


def test_another_owners_session_is_as_unknown_as_none(database: Database, new_session: Callable[..., Session]) -> None:
    session = new_session("ada")
    with database.transaction() as tx:
        assert sessions.visible(tx, session.id, "ada").id == session.id
        assert sessions.visible(tx, session.id, None).id == session.id
        for session_id, owner in ((session.id, "eve"), (uuid7(), "ada"), (uuid7(), None)):
            with pytest.raises(SessionNotFound):
                sessions.visible(tx, session_id, owner)


def test_a_new_session_and_its_event_are_written_together(
    database: Database, new_session: Callable[..., Session]
) -> None:
    session = new_session(query="echo hello")
    with database.transaction() as tx:
        events = tx.query(Event).filter_by(session_id=session.id).all()

    assert [(event.event_type, event.payload["query"]) for event in events] == [("session.created", "echo hello")]


def test_only_sessions_whose_start_was_sent_long_ago_are_sent_again(
    database: Database, new_session: Callable[..., Session]
) -> None:
    session = new_session()
    with database.transaction() as tx:
        assert session.id not in [waiting.session_id for waiting in backlog.unclaimed(tx, 60)]
        assert session.id in [waiting.session_id for waiting in backlog.unclaimed(tx, 0.0, limit=10_000)]


def test_places_are_those_of_unclaimed_sessions_by_priority_and_creation(
    new_database: Callable[[], str], at: datetime
) -> None:
    database = Database.open(load_settings({"DATABASE_URL": new_database()}))
    with database.transaction() as tx:
        made = [
            openings.open_session(
                tx,
                NewSession("ada", "key", "shell", "x", 60, priority=priority),
                Caps(None),
                at=at + timedelta(seconds=number),
            )
            for number, priority in enumerate(("low", "normal", "high", "normal", "low", "high", "high"))
        ]
        # Sent again: the place stays.
        backlog.note_sent(tx, made[1].id)
        made[6].status = "active"
        tx.flush()
        places = backlog.places(tx, made)
        assert [places.get(session.id) for session in made] == [5, 3, 1, 4, 6, 2, None]
        assert backlog.places(tx, [made[4]]) == {made[4].id: 6}
        assert backlog.places(tx, [made[6]]) == {}
    database.close()
