"""Where a stream begins: Last-Event-ID beats `after`, that beats `tail`; without any, at the start.

A stream of many sessions has a place in each: their numbers in order, with commas between them.
"""

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
    from uuid import UUID

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
    return starts_of(log, [session], headers, args)[0]


def starts_of(log: Log, sessions: Sequence[Session], headers: Headers, args: Mapping[str, str]) -> list[Start | None]:
    """Return where a stream begins in each of these sessions; None for those that were read to their end.

    Raises InvalidPosition.
    """
    asked = headers.get("Last-Event-ID") or args.get("after")
    if asked is None:
        return [_tail(log, session, args["tail"]) if "tail" in args else Start() for session in sessions]
    places = [number(text) for text in asked.split(",")]
    if len(places) != len(sessions):
        raise InvalidPosition
    each = list(zip(sessions, places, strict=True))
    _check_live(log, {session.id: after for session, after in each if session.ended_at is None}, time.sleep)
    return [_start(session, after) for session, after in each]


def _start(session: Session, after: int) -> Start | None:
    if session.ended_at is not None:
        if after == session.last_seq:
            return None
        if after > session.last_seq and not _may_have_lost(session):
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


def _check_live(log: Log, wanted: Mapping[UUID, int], sleep: Callable[[float], None]) -> None:
    """See that live logs are as long as their readers say. Raises InvalidPosition."""
    for seconds in HEAD_LOOKS:
        ahead = {session_id: after for session_id, after in wanted.items() if after}
        heads = log.heads(ahead) if ahead else {}
        wanted = {session_id: after for session_id, after in ahead.items() if after > heads[session_id]}
        if not wanted:
            return
        sleep(seconds)
    raise InvalidPosition


def _may_have_lost(session: Session) -> bool:
    """Whether a reader may have seen entries that died with the worker; such a reader gets the end once more."""
    return session.reason is not None and ENDED_BY[Reason(session.reason)] is Trigger.LOST
