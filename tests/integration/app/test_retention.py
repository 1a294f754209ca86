"""What goes after its retention, in which order, and what readers of it are told."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from core.clock import SystemClock
from core.settings import Settings, load_settings
from models import retention
from models.retention import BEGIN
from models.tables import Base
from streams import keys
from streams.entries import pack
from tasks.expiry import EventExpiry, OutputExpiry, SessionExpiry, Turns

if TYPE_CHECKING:
    from uuid import UUID

    from app.web import Web
    from tests.integration.app.holder import Holder, Run
    from tests.integration.app.serving import Api

PLAIN = {"Accept": "text/plain"}
DAY = 86400


@pytest.fixture
def settings(variables: dict[str, str]) -> Settings:
    return load_settings(variables | {"RETENTION_OUTPUT_SECONDS": str(DAY), "RETENTION_SESSIONS_SECONDS": str(3 * DAY)})


def ended(web: Web, holder: Holder, session_id: UUID, *, days_ago: float) -> Run:
    """Let a session print and end, that long ago."""
    run = holder.run(session_id)
    run.write(b"one\n")
    run.write(b"two\n")
    run.end()
    with web.database.transaction() as tx:
        moved = text(
            "UPDATE sessions SET ended_at = clock_timestamp() - make_interval(secs => :seconds) WHERE id = :id"
        )
        tx.execute(moved, {"seconds": days_ago * DAY, "id": session_id})
    return run


def expire(web: Web) -> None:
    """Do what housekeeping does, until nothing is left to do."""
    for kind in (OutputExpiry, SessionExpiry):
        kind(web.database, web.settings, SystemClock()).round()


def rows(web: Web, table: str, session_id: UUID) -> int:
    with web.database.transaction() as tx:
        return int(tx.scalar(text(f"SELECT count(*) FROM {table} WHERE session_id = :id"), {"id": session_id}) or 0)


def events_of(api: Api, path: str) -> list[tuple[str, dict[str, object]]]:
    told = [block.splitlines() for block in api.get(path).text.split("\n\n")]
    named = [dict(line.partition(": ")[::2] for line in lines if ": " in line) for lines in told]
    return [(each["event"], json.loads(each["data"])) for each in named if "event" in each]


def test_output_goes_and_readers_are_told_and_the_end_is_still_told(plain: Api, web: Web, holder: Holder) -> None:
    old, young = plain.create(terminal={"rows": 5, "cols": 20}), plain.create()
    ended(web, holder, old, days_ago=2)
    ended(web, holder, young, days_ago=0.9)
    live = plain.create()
    holder.run(live).write(b"alive")
    expire(web)

    path = f"/sessions/{old}"
    for refused in ("output", "output?offset=5", "output?tail=1", "output/search?q=one", "output.cast"):
        answer = plain.get(f"{path}/{refused}")
        assert (answer.status_code, answer.json()["error_code"]) == (410, "OUTPUT_EXPIRED"), refused
    assert plain.get(f"{path}/output", headers=PLAIN).status_code == 410
    assert plain.get(f"{path}/output", headers=PLAIN | {"Range": "bytes=2-3"}).status_code == 410
    waited = plain.post(f"{path}/wait", {"until": {"text": "one"}})
    assert (waited.status_code, waited.json()["error_code"]) == (410, "OUTPUT_EXPIRED")

    assert plain.get(f"{path}/output?offset=8").json()["complete"] is True
    assert plain.post(f"{path}/wait", {"until": {"exit": True}}).json()["matched"] is True
    shown = plain.get(path).json()
    assert (shown["status"], shown["exit_code"]) == ("completed", 0)

    web.redis.delete(keys.head(old), keys.log(old))  # as it does by itself, ten minutes after the end
    told = [(name, data) for name, data in events_of(plain, f"{path}/stream") if name != "connected"]
    assert told[0][0] == "gap"
    assert told[0][1]["reason"] == "retention"
    assert told[-1][0] == "terminated"
    assert told[-1][1]["output_bytes"] == 8

    assert plain.get(f"/sessions/{young}/output").json()["output"] == "one\ntwo\n"
    assert plain.get(f"/sessions/{live}/output").json()["output"] == "alive"


def test_a_session_that_printed_nothing_has_all_its_output_for_ever(plain: Api, web: Web, holder: Holder) -> None:
    session_id = plain.create()
    run = holder.run(session_id)
    run.tell("idle", "active")
    run.end()
    with web.database.transaction() as tx:
        tx.execute(
            text("UPDATE sessions SET ended_at = ended_at - interval '2 days' WHERE id = :id"), {"id": session_id}
        )
    expire(web)

    assert rows(web, "segments", session_id) == 1
    assert plain.get(f"/sessions/{session_id}/output").json()["complete"] is True


def test_sessions_go_with_all_that_is_of_them_and_live_ones_never(plain: Api, web: Web, holder: Holder) -> None:
    old, live = plain.create(), plain.create()
    plain.post(f"/sessions/{old}/input", {"input": "x"})
    ended(web, holder, old, days_ago=4)
    run = holder.run(live)
    run.write(b"alive")
    plain.post(f"/sessions/{live}/input", {"input": "x"})
    with web.database.transaction() as tx:
        tx.execute(text("UPDATE sessions SET created_at = created_at - interval '9 days' WHERE id = :id"), {"id": live})
    expire(web)

    assert plain.get(f"/sessions/{old}").status_code == 404
    assert plain.get(f"/sessions/{old}/stream").status_code == 404
    assert rows(web, "segments", old) == rows(web, "inputs", old) == 0
    assert rows(web, "inputs", live) == 1
    assert plain.get(f"/sessions/{live}").json()["status"] == "active"


def test_steps_are_bounded_and_half_removed_output_is_never_joined_over_the_hole(
    plain: Api, web: Web, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = plain.create()
    run = holder.run(session_id)
    for number in range(5):
        run.write(b"%d" % number * 10)
    run.end()
    with web.database.transaction() as tx:  # as a worker stores it: five stretches and the end
        whole = {"id": session_id}
        tx.execute(text("DELETE FROM segments WHERE session_id = :id AND first_seq = 1"), whole)
        for entry in run.entries:
            stretch = {**whole, "seq": entry.seq, "begin": entry.offset, "end": entry.end_offset}
            stored = text("INSERT INTO segments VALUES (:id, :seq, :seq, :begin, :end, :blob)")
            tx.execute(stored, {**stretch, "blob": pack(entry)})
        tx.execute(text("UPDATE sessions SET ended_at = ended_at - interval '2 days' WHERE id = :id"), whole)
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 2)
    left = [rows(web, "segments", session_id)]
    place = BEGIN
    while True:
        with web.database.transaction() as tx:
            done = retention.expire_output(tx, DAY, place)
        if done.place is None:
            break
        place = done.place
        if (count := rows(web, "segments", session_id)) != left[-1]:
            left.append(count)
        if count == 4:
            answer = plain.get(f"/sessions/{session_id}/output?offset=15")
            assert answer.json()["error_code"] == "OUTPUT_EXPIRED"
            assert (
                plain.get(f"/sessions/{session_id}/output?offset=25").json()["output"] == "22222" + "3" * 10 + "4" * 10
            )

    assert left == [6, 4, 2, 1]


def test_one_kind_a_round_and_nothing_while_all_rest_whatever_one_of_them_stumbles_over(web: Web) -> None:
    asked: list[str] = []

    class Stumbling(OutputExpiry):
        def step(self) -> bool:
            asked.append("stumbled")
            raise ValueError("a row that nobody understands")

    turns = Turns(web.database, web.settings, SystemClock())
    turns._parts = [kind(web.database, web.settings, SystemClock()) for kind in (EventExpiry, Stumbling, SessionExpiry)]
    for part in turns._parts:
        part.tell = partial(asked.append, type(part).__name__)  # type: ignore[method-assign]
    for _ in range(5):
        turns.round()

    assert asked == ["EventExpiry", "stumbled", "SessionExpiry"]


def test_every_table_that_names_sessions_lets_them_go() -> None:
    keys_of_all = [key for table in Base.metadata.tables.values() for key in table.foreign_keys]
    to_sessions = {key.parent.table.name: key.ondelete for key in keys_of_all if key.column.table.name == "sessions"}

    assert "segments" in to_sessions
    assert set(to_sessions.values()) == {"CASCADE"}
