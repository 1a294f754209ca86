"""What the mirror does with NATS: its streams, what it refuses, what sessions print; and how it says what is wrong."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from nats.js.api import StreamConfig

from core.ids import uuid7
from models import feed, mirroring, openings, segments
from models.events import BEGINNING
from models.openings import Caps, NewSession
from models.segments import Stretch
from streams.entries import Entry, EntryKind, pack
from streams.envelopes import STREAM
from tests.checks import eventually, holds_for
from tests.leaks import KNOWN, refuse
from tests.mirrored import Consumer, Mirrored, with_jetstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jelmore.embedded import Nats, Postgres
    from models.mirroring import Said


@pytest.fixture
def plant(tmp_path: Path, new_database: Callable[[], str], nats: Nats, postgres: Postgres) -> Iterator[Mirrored]:
    """A database and streams of their own, on the servers of all tests."""
    mirrored = Mirrored(tmp_path, new_database(), nats, postgres)
    yield mirrored
    mirrored.stop()
    with_jetstream(nats.url, _emptied)
    refuse(KNOWN.in_home(tmp_path))


async def _emptied(context: Any) -> None:
    for stream in await context.streams_info():
        await context.delete_stream(stream.config.name)


def messages(plant: Mirrored, count: int, **options: Any) -> Consumer:
    """Read what a new group gets."""
    consumer = Consumer(plant.nats.url, f"g{uuid7().hex}", **options)
    try:
        eventually(lambda: len(consumer.got) >= count)
    finally:
        consumer.close()
    return consumer


def said(plant: Mirrored) -> Said:
    with plant.database.transaction() as tx:
        told = mirroring.said(tx)
    assert told is not None, "it has said nothing yet"
    return told


def test_an_event_comes_with_its_envelope_and_headers(plant: Mirrored) -> None:
    plant.mirror()
    session_id = uuid7()
    plant.write({"input_seq": 1}, session_id=session_id)

    got = messages(plant, 1)
    (body,), (headers,) = got.bodies, got.headers
    with plant.database.transaction() as tx:
        (row,) = feed.read(tx, BEGINNING, limit=10)
    assert body == feed.envelope(row)
    assert headers["Nats-Msg-Id"] == body["event_id"]
    named = {name: headers[name] for name in ("Event-Type", "Session-Id", "Request-Id")}
    assert named == {"Event-Type": "session.input", "Session-Id": str(session_id), "Request-Id": "r-1"}


def test_what_nats_refuses_goes_to_the_dead_letters_and_holds_up_nothing(plant: Mirrored) -> None:
    own = StreamConfig(name=STREAM, subjects=["jelmore.session.>"], max_msg_size=2000, max_age=3600)
    with_jetstream(plant.nats.url, lambda context: context.add_stream(own))
    plant.settings["NATS_PUBLISH_TRIES"] = "2"
    plant.mirror()
    plant.write({"n": 1}, {"n": 2, "more": "x" * 3000}, {"n": 3}, {"n": 4, "more": "x" * 2_000_000})
    plant.write({"n": 5})

    eventually(lambda: plant.waiting() == 0)
    assert [body["payload"]["n"] for body in messages(plant, 3).bodies] == [1, 3, 5]
    letters = with_jetstream(plant.nats.url, _letters)
    assert [letter["tries"] for letter in letters] == [2, 2]
    assert letters[0]["event"]["payload"]["n"] == 2
    assert "exceeds maximum" in letters[0]["reason"]
    assert letters[1]["event"]["payload"] is None, "what is too large for a letter is left out"
    assert "max_age 3600" in " ".join(said(plant).notes), "another configuration is told"
    eventually(lambda: "2 dead letters" in " ".join(said(plant).notes))
    assert with_jetstream(plant.nats.url, _max_age) == 3600, "and left as it is"


async def _letters(context: Any) -> list[dict[str, Any]]:
    count = (await context.stream_info("JELMORE_DLQ")).state.messages
    return [json.loads((await context.get_msg("JELMORE_DLQ", number + 1)).data) for number in range(count)]


async def _max_age(context: Any) -> float:
    return float((await context.stream_info(STREAM)).config.max_age)


def test_consumers_of_a_group_share_and_a_new_group_begins_where_it_says(plant: Mirrored) -> None:
    plant.mirror()
    eventually(lambda: said(plant).trouble is None)
    one, other = Consumer(plant.nats.url, "shared"), None
    try:
        eventually(lambda: with_jetstream(plant.nats.url, _has_group))
        other = Consumer(plant.nats.url, "shared")
        for start in range(0, 400, 20):
            plant.write(*({"n": start + n} for n in range(20)))
        eventually(lambda: len(one.got) + len(other.got) == 400)
    finally:
        for consumer in (one, other):
            if consumer is not None:
                consumer.close()
    assert {*one.got} & {*other.got} == set()

    eventually(lambda: plant.waiting() == 0)
    first = min(one.got + other.got)[2]
    assert flask(plant, "events", "republish", "--from", first) == (0, "400 events will be published again.\n")
    eventually(lambda: plant.waiting() == 0)
    count = with_jetstream(plant.nats.url, lambda context: context.stream_info(STREAM)).state.messages
    assert count == 400, "within the window nothing is there twice"


def flask(plant: Mirrored, *words: str) -> tuple[int, str]:
    """Run `flask …` on this database."""
    command = [sys.executable, "-m", "flask", "--app", "app:create_app", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=plant.env())
    return done.returncode, done.stdout or done.stderr


async def _has_group(context: Any) -> bool:
    return any(consumer.name == "shared" for consumer in await context.consumers_info(STREAM))


def test_output_is_mirrored_from_the_segments_where_that_is_wanted(plant: Mirrored) -> None:
    plant.settings["NATS_MIRROR_OUTPUT"] = "true"
    with plant.database.transaction() as tx:
        new = NewSession("ada", "key", "shell", "true", 60)
        session_id = openings.open_session(tx, new, Caps(None), at=datetime.now(UTC)).id
    plant.mirror()
    printed = [b"hello\n", "grüße".encode(), b"\xff\x00", b"\x01" * 200_000]
    offset = 0
    for seq, data in enumerate(printed, start=1):
        entry = Entry(seq, EntryKind.OUTPUT, 1_700_000_000_000, {"offset": offset, "stream": "stdout"}, data)
        stretch = Stretch(session_id, seq, seq, offset, offset + len(data), pack(entry))
        with plant.database.transaction() as tx:
            segments.store(tx, [stretch])
        offset += len(data)

    got = messages(plant, 4, subject="jelmore.session.output")
    payloads = [body["payload"] for body in got.bodies]
    assert [payload["seq"] for payload in payloads] == [1, 2, 3, 4]
    assert [_exact(payload) for payload in payloads] == printed
    assert {body["event_type"] for body in got.bodies} == {"session.output"}
    assert [body["event_id"] for body in got.bodies] == [f"{session_id}:{seq}" for seq in (1, 2, 3, 4)]


def _exact(payload: dict[str, Any]) -> bytes:
    if "content_base64" in payload:
        return base64.b64decode(payload["content_base64"])
    return str(payload["content"]).encode()


def test_without_an_address_the_mirror_says_so_and_waits(plant: Mirrored) -> None:
    plant.settings["NATS_URL"] = ""
    member = plant.mirror()
    eventually(lambda: "NATS_URL is not set" in member.said())
    plant.write({"n": 1})
    holds_for(lambda: member.alive and plant.waiting() == 1, 0.5)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"NATS_URL": "nats://127.0.0.1:1"}, "NATS does not let us in"),
        ({"NATS_CREDS": "/nonexistent/creds"}, "NATS does not let us in"),
    ],
)
def test_what_is_wrong_with_nats_is_said_in_words(plant: Mirrored, setting: dict[str, str], words: str) -> None:
    plant.settings |= setting
    plant.write({"n": 1})
    member = plant.mirror()
    eventually(lambda: words in (said(plant).trouble or ""))
    assert member.alive
    assert plant.waiting() == 1


def listen(plant: Mirrored, group: str, *words: str) -> tuple[int, list[Any], str]:
    """Run `jelmore events` until nothing is left."""
    command = [sys.executable, "-m", "jelmore", "events", "--group", group, "--no-follow", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=plant.env())
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_the_command_prints_each_event_once_a_group_from_where_it_is_told(plant: Mirrored) -> None:
    assert listen(plant, "early")[0] == 1, "no mirror has made the stream yet"
    plant.mirror()
    for n in range(4):
        plant.write({"n": n}, kind="key.rotated" if n == 3 else "session.input")
        eventually(lambda: plant.waiting() == 0)
    third_at = [body["timestamp"] for body in messages(plant, 4).bodies][2]

    def got(group: str, *words: str) -> list[int]:
        code, bodies, said = listen(plant, group, *words)
        assert code == 0, said
        return [body["payload"]["n"] for body in bodies]

    assert got("all") == [0, 1, 2, 3]
    assert got("all") == [], "the group knows how far it is"
    assert got("some", "--from", "2") == [1, 2, 3]
    assert got("since", "--from", third_at) == [2, 3]
    assert got("kinds", "--type", "key.rotated", "--type", "worker.lost") == [3]
    assert listen(plant, "all", "--from", "1")[0] == 2, "a group that is there goes on where it was"
    assert listen(plant, "else", "--from", "soon")[0] == 2
