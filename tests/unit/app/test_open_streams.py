"""Places for streams."""

from __future__ import annotations

import pytest

from app.open_streams import OpenStreams
from core.errors import TooManyStreams
from core.ids import uuid7


def test_no_more_streams_than_allowed_and_a_place_left_can_be_taken() -> None:
    streams, session = OpenStreams(2), uuid7()
    streams.take(session)
    streams.take(session)
    with pytest.raises(TooManyStreams):
        streams.take(uuid7())

    streams.leave(session)

    streams.take(uuid7())
    assert (streams.total, streams.sessions) == (2, 2)


def test_a_session_nobody_follows_any_more_is_forgotten() -> None:
    streams, session = OpenStreams(2), uuid7()
    streams.take(session)
    streams.leave(session)

    assert (streams.total, streams.sessions) == (0, 0)
