"""Places for streams."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from app.open_streams import OpenStreams
from core.errors import TooManyStreams, TooManyStreamsOfKey
from core.ids import uuid7
from models.tables import Session


def session(owner: str = "ada") -> Session:
    return Session(id=uuid7(), owner=owner)


def test_no_more_streams_than_allowed_and_a_place_left_can_be_taken() -> None:
    streams, followed, other = OpenStreams(2), session(), session()
    with ExitStack() as held:
        held.enter_context(streams.place(followed))
        with streams.place(followed):
            with pytest.raises(TooManyStreams), streams.place(other):
                pass
            assert (streams.total, streams.sessions) == (2, 1)

        held.enter_context(streams.place(other))
        assert (streams.total, streams.sessions) == (2, 2)


def test_a_key_has_its_own_share_and_gets_it_back() -> None:
    streams, followed = OpenStreams(9, cap_per_key=1), session()
    with streams.place(followed, "a"):
        with pytest.raises(TooManyStreamsOfKey), streams.place(followed, "a"):
            pass
        with streams.place(followed, "b"), streams.place(followed):
            assert streams.total == 3
    with streams.place(followed, "a"):
        assert streams.total == 1


def test_streams_are_told_apart_by_the_owners_of_sessions() -> None:
    streams, adas, bobs = OpenStreams(9), session(), session("bob")
    with streams.place(adas), streams.place(adas, "key"), streams.place(bobs):
        assert streams.by_owner() == {"ada": {adas.id: 2}, "bob": {bobs.id: 1}}


def test_a_session_nobody_follows_any_more_is_forgotten() -> None:
    streams = OpenStreams(2)
    with streams.place(session()):
        pass

    assert (streams.total, streams.sessions, streams.by_owner()) == (0, 0, {})
