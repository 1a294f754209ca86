"""When what a client waits for has come true."""

from __future__ import annotations

import math
from typing import Any

import pytest

from app.conditions import Becomes, Exits, FallsQuiet, Prints
from models.lifecycle import Status
from streams.entries import Entry, EntryKind
from streams.log import Reading
from streams.match import Found, Literal, Search

END = {"status": "failed", "output_bytes": 3}


def log(*items: str | bytes | tuple[EntryKind, dict[str, Any]], first: int = 1, ended: bool = False) -> Reading:
    """A stretch of a log: texts are statuses, bytes are output."""
    entries, offset = [], 0
    for seq, item in enumerate(items, first):
        if isinstance(item, bytes):
            entries.append(Entry(seq, EntryKind.OUTPUT, 0, {"offset": offset, "stream": "stdout"}, item))
            offset += len(item)
        elif isinstance(item, str):
            entries.append(Entry(seq, EntryKind.STATUS, 0, {"status": item}))
        else:
            entries.append(Entry(seq, item[0], 0, item[1]))
    return Reading(entries, ended)


NOTHING = log()
RESTARTED = (EntryKind.RESTARTED, {"attempt": 2})
TERMINATED = (EntryKind.TERMINATED, END)
GAP = (EntryKind.GAP, {"from": 2, "to": 9, "reason": "lost"})


def test_the_end_is_the_end_of_the_log() -> None:
    condition = Exits(7)
    assert not condition.see(log("active", b"abc", "terminating"), 0)
    assert condition.next_offset == 3
    assert condition.see(log(TERMINATED, first=4, ended=True), 0)
    assert (condition.found, condition.status, condition.patience(0)) == (None, None, math.inf)


def test_an_end_given_up_to_retention_is_an_end() -> None:
    assert Exits(0).see(log(GAP, ended=True), 0)
    kept = Becomes([Status.FAILED], Status.FAILED, 9, (9, 3))
    assert kept.see(log(GAP, first=9, ended=True), 0)


def becomes(row: Status, *wanted: Status, head: int = 0) -> Becomes:
    return Becomes(wanted, row, head, (0, 0))


def test_the_status_a_session_has_needs_no_news() -> None:
    condition = becomes(Status.IDLE, Status.ACTIVE, Status.IDLE)

    assert condition.patience(0) == 0
    assert condition.see(NOTHING, 0)
    assert condition.status is Status.IDLE


def test_the_log_knows_before_the_row() -> None:
    condition = becomes(Status.ACTIVE, Status.IDLE, head=2)
    assert condition.patience(0) == math.inf
    assert condition.see(log("active", "idle"), 0)

    late = becomes(Status.ACTIVE, Status.ACTIVE, head=2)
    assert not late.see(log("active", "idle"), 0)


def test_the_row_knows_before_the_log_that_a_session_terminates() -> None:
    condition = becomes(Status.TERMINATING, Status.ACTIVE, head=1)

    assert not condition.see(log("active"), 0)
    assert becomes(Status.TERMINATING, Status.TERMINATING, head=1).see(log("active"), 0)


def test_a_status_before_the_wait_counts_only_if_it_is_the_last() -> None:
    condition = becomes(Status.ACTIVE, Status.IDLE, head=3)

    assert not condition.see(log("idle", b"x", "active"), 0)
    assert condition.see(log("idle", "active", first=4), 0)
    assert condition.status is Status.IDLE


def test_a_status_at_the_begin_that_is_gone_when_the_log_is_read_counts() -> None:
    assert becomes(Status.ACTIVE, Status.IDLE, head=2).see(log("active", "idle", "active"), 0)


def test_a_restart_initializes() -> None:
    assert becomes(Status.ACTIVE, Status.INITIALIZING).see(log(RESTARTED), 0)


def test_the_last_status_is_in_the_end() -> None:
    assert becomes(Status.TERMINATING, Status.FAILED).see(log(TERMINATED, ended=True), 0)
    assert not becomes(Status.TERMINATING, Status.COMPLETED).see(log(TERMINATED, ended=True), 0)


def test_quiet_is_counted_from_the_last_output_in_the_wait() -> None:
    condition = FallsQuiet(2, running=True, end=0, now=10)

    assert (condition.see(NOTHING, 11.9), condition.patience(11.5)) == (False, 0.5)
    assert not condition.see(log(b"abc", "idle"), 12)
    assert condition.next_offset == 3
    assert not condition.see(log("active", first=3), 13.9)
    assert condition.see(NOTHING, 14)


def test_what_has_not_started_is_not_quiet() -> None:
    condition = FallsQuiet(2, running=False, end=0, now=0)

    assert (condition.see(NOTHING, 100), condition.patience(100)) == (False, math.inf)
    assert not condition.see(log("active"), 100)
    assert condition.see(NOTHING, 102)
    assert not condition.see(log("initializing", RESTARTED, first=2), 103)
    assert condition.patience(103) == math.inf


def test_who_has_ended_is_not_quiet() -> None:
    condition = FallsQuiet(2, running=True, end=0, now=0)

    assert not condition.see(log(TERMINATED, ended=True), 100)


def test_output_is_looked_through_as_it_comes() -> None:
    condition = Prints(Search(Literal(b"cd"), 1), Search.look)
    assert not condition.see(log("active", b"abc", "idle"), 0)
    assert condition.next_offset == 2
    assert condition.see(Reading([Entry(4, EntryKind.OUTPUT, 0, {"offset": 3}, b"de")], ended=False), 0)

    assert (condition.found, condition.next_offset) == (Found(2, b"cd"), 4)


def test_nothing_matches_across_a_gap() -> None:
    condition = Prints(Search(Literal(b"cd"), 0), Search.look)

    assert not condition.see(log(b"abc", GAP, first=1), 0)
    assert not condition.see(log(b"d", b"cd"[:1], first=10), 0)
    assert condition.next_offset == 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_search_that_is_broken_off_is_not_touched_again(times: int) -> None:
    asked = []

    def look(search: Search) -> Found | None:
        asked.append(search)
        raise TimeoutError

    condition = Prints(Search(Literal(b"cd"), 5), look)
    for _ in range(times):
        assert not condition.see(log(b"abcdefcd"), 0)

    assert (len(asked), condition.next_offset) == (1, 5)
