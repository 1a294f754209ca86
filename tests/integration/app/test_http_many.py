"""GET /stream: several sessions at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.checks import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    import httpx2

    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api

NOBODYS = "01a20876-96f3-7641-a7dd-835fac400188"


def parsed(lines: Iterator[str]) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
    """Yield (id, event, data) of each event."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            found[name] = value
        elif "event" in found:
            yield found.get("id"), found["event"], json.loads(found["data"])
            found = {}


def events(answer: httpx2.Response) -> list[tuple[str | None, str, dict[str, Any]]]:
    assert answer.status_code == 200, answer.text
    return [*parsed(iter(answer.text.splitlines()))]


def printed(found: list[tuple[str | None, str, dict[str, Any]]], session_id: UUID) -> str:
    return "".join(
        data["content"] for _, kind, data in found if kind == "output" and data["session_id"] == str(session_id)
    )


def asked(*session_ids: UUID, **more: str) -> dict[str, str]:
    return {"sessions": ",".join(map(str, session_ids)), **more}


def test_all_of_several_sessions_comes_until_the_last_has_ended(api: Api, holder: Holder) -> None:
    first, second = api.create(), api.create()
    runs = [holder.run(first), holder.run(second)]
    for number in range(20):
        runs[number % 2].write(b"%d\n" % number)
    for run in runs:
        run.end()
    found = events(api.get("/stream", params=asked(first, second)))

    assert [kind for _, kind, _ in found[:2]] == ["connected", "connected"]
    assert printed(found, first) == "".join(f"{number}\n" for number in range(0, 20, 2))
    assert printed(found, second) == "".join(f"{number}\n" for number in range(1, 20, 2))
    assert [data["session_id"] for _, kind, data in found if kind == "terminated"] == [str(first), str(second)]
    places = [tuple(map(int, place.split(","))) for place, *_ in found if place]
    assert places == sorted(places)
    assert places[-1] == tuple(api.get(f"/sessions/{each}").json()["last_seq"] for each in (first, second))

    for at in (3, len(found) - 3):
        rest = events(api.get("/stream", params=asked(first, second), headers={"Last-Event-ID": str(found[at][0])}))
        assert [event for event in rest if event[0]] == found[at + 1 :]
    last = str(found[-1][0])
    assert api.get("/stream", params=asked(first, second, after=last)).status_code == 204


def test_what_is_printed_comes_as_it_is_printed(gevent: Api, holder: Holder) -> None:
    first, second = gevent.create(), gevent.create()
    runs = [holder.run(first), holder.run(second)]
    params = asked(first, second, events="output")
    with gevent.client.stream("GET", "/api/v1/stream", params=params, headers=gevent.headers) as answer:
        stream = parsed(answer.iter_lines())
        assert [next(stream)[1] for _ in runs] == ["connected", "connected"]
        for number in range(10):
            runs[number % 2].write(b"%d" % number)
            _, kind, data = next(stream)
            assert (kind, data["content"]) == ("output", str(number))
            assert data["session_id"] == str((first, second)[number % 2])
        runs[0].end()
        assert next(stream)[1] == "terminated"
        runs[1].write(b"more")
        assert next(stream)[2]["content"] == "more"
        runs[1].end()
        assert next(stream)[1] == "terminated"
        assert list(stream) == []
    eventually(lambda: open_streams(gevent) == 0)


def open_streams(api: Api) -> int:
    stats = api.client.get("/health").json()["infrastructure"]["websocket_manager"]["stats"]
    return int(stats["total_connections"])


def test_what_cannot_be_followed_is_refused(api: Api, holder: Holder) -> None:
    session_id = api.create()
    holder.run(session_id).end()
    many = [api.create() for _ in range(2)]

    for params, status, code in (
        ({}, 422, "VALIDATION_FAILED"),
        ({"sessions": ""}, 422, "VALIDATION_FAILED"),
        ({"sessions": "x"}, 422, "VALIDATION_FAILED"),
        (asked(session_id, session_id), 422, "VALIDATION_FAILED"),
        ({"sessions": ",".join([NOBODYS] * 51)}, 422, "VALIDATION_FAILED"),
        ({"sessions": f"{session_id},{NOBODYS}"}, 404, "SESSION_NOT_FOUND"),
        (asked(*many, after="1"), 400, "INVALID_POSITION"),
        (asked(*many, after="1,x"), 400, "INVALID_POSITION"),
        (asked(*many, after="0,99"), 400, "INVALID_POSITION"),
        (asked(session_id, tail="x"), 400, "INVALID_POSITION"),
    ):
        answer = api.get("/stream", params=params)
        assert (answer.status_code, answer.json()["error_code"]) == (status, code), params


@pytest.mark.parametrize("encoding", ["utf-8", "base64"])
def test_filters_and_tails_are_those_of_one_stream(api: Api, holder: Holder, encoding: str) -> None:
    first, second = api.create(), api.create()
    for each in (first, second):
        run = holder.run(each)
        run.write(b"one\ntwo\nthree\n")
        run.end()
    found = events(api.get("/stream", params=asked(first, second, tail="1", events="output", encoding=encoding)))

    name = "content" if encoding == "utf-8" else "content_base64"
    assert [data[name] for _, kind, data in found if kind == "output"] == [
        "three\n" if name == "content" else "dGhyZWUK"
    ] * 2
    assert {kind for _, kind, _ in found} == {"connected", "output", "terminated"}
