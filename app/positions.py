"""Where a stream begins: Last-Event-ID beats `after`, that beats `tail`; without any, at the start."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from core.errors import InvalidPosition
from models.lifecycle import ENDED_BY, Reason, Trigger
from streams import output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from werkzeug.datastructures import Headers

    from models.tables import Session
    from streams.log import Log

NUMBER: Final = re.compile(r"[0-9]{1,18}")
HEAD_LOOKS: Final = (0.1, 0.3, 0.6, 1.0, 1.0)
"""Seconds between looks for the head of a live session whose reader has more than we know of.

After Redis was emptied the head is what PostgreSQL has, a second behind what readers have seen, until the holder appends again.
"""


@dataclass(frozen=True, slots=True)
class Start:
    """Begin behind entry `after`, with the output from byte `skip_to` on."""

    after: int = 0
    skip_to: int = 0


def start_of(log: Log, session: Session, headers: Headers, args: Mapping[str, str]) -> Start | None:
    """Return where a stream of this session begins; None if it was read to its end. Raises InvalidPosition."""
    return start_at(log, session, headers.get("Last-Event-ID") or args.get("after"), args.get("tail"))


def starts_of(log: Log, sessions: Sequence[Session], headers: Headers, args: Mapping[str, str]) -> list[Start | None]:
    """Return the same for several sessions, whose positions stand between commas. Raises InvalidPosition."""
    asked = headers.get("Last-Event-ID") or args.get("after")
    places: list[str | None] = [None] * len(sessions) if asked is None else [*asked.split(",")]
    if len(places) != len(sessions):
        raise InvalidPosition
    return [start_at(log, session, place, args.get("tail")) for session, place in zip(sessions, places, strict=True)]


def start_at(log: Log, session: Session, asked: str | None, tail: str | None) -> Start | None:
    """Return where to begin behind an entry or before the last lines. Raises InvalidPosition."""
    if asked is None:
        return Start() if tail is None else _tail(log, session, tail)
    after = number(asked)
    if session.ended_at is None:
        _check_live(log, session, after, time.sleep)
    elif after == session.last_seq:
        return None
    elif after > session.last_seq and not _may_have_lost(session):
        raise InvalidPosition
    return Start(after)


def number(text: str) -> int:
    """Return a position. Raises InvalidPosition for whatever is no plain number."""
    if not NUMBER.fullmatch(text):
        raise InvalidPosition
    return int(text)


def _tail(log: Log, session: Session, text: str) -> Start:
    lines = number(text)
    if lines:
        return Start(*output.tail_offset(log, session.id, lines))
    # No lines: what is new, and of an ended session its end.
    return Start(log.head(session.id) if session.ended_at is None else session.last_seq - 1)


def _check_live(log: Log, session: Session, after: int, sleep: Callable[[float], None]) -> None:
    for seconds in HEAD_LOOKS:
        if after <= log.head(session.id):
            return
        sleep(seconds)
    raise InvalidPosition


def _may_have_lost(session: Session) -> bool:
    """Whether a reader may have seen entries that died with the worker; such a reader gets the end once more."""
    return session.reason is not None and ENDED_BY[Reason(session.reason)] is Trigger.LOST
