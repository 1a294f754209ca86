"""GET sessions: filters, pages, counting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from app.times import iso, moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api

EARLY, LATE = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"


def listed(api: Api, label: str, **filters: Any) -> list[str]:
    answer = api.get("/sessions", params={"user_id": label, **filters})
    assert answer.status_code == 200, answer.text
    return [session["session_id"] for session in answer.json()]


def pages(api: Api, first: str) -> Iterator[httpx2.Response]:
    """Follow the links to the end."""
    path = f"/api/v1{first}"
    while True:
        answer = api.client.get(path, headers=api.headers)
        assert answer.status_code == 200, answer.text
        yield answer
        if "next" not in answer.links:
            return
        path = answer.links["next"]["url"]


def test_pages_hold_every_session_once_though_new_ones_come(api: Api, label: str) -> None:
    made = [str(api.create(user_id=label)) for _ in range(7)]
    found = []
    for page in pages(api, f"/sessions?user_id={label}&limit=3&status=initializing&count=true"):
        found.append([session["session_id"] for session in page.json()])
        api.create(user_id=label)

    assert found == [made[:3:-1], made[3:0:-1], made[:1]]
    assert page.headers["X-Total-Count"] == "9"  # with those that came meanwhile, but for the last


def test_a_page_that_is_just_full_has_none_after_it(api: Api, label: str) -> None:
    for _ in range(3):
        api.create(user_id=label)

    assert "Link" not in api.get(f"/sessions?user_id={label}&limit=3").headers
    assert "X-Total-Count" not in api.get(f"/sessions?user_id={label}&limit=3").headers
    assert 'rel="next"' in api.get(f"/sessions?user_id={label}&limit=2").headers["Link"]


def test_a_link_keeps_what_was_asked_for_whatever_it_holds(api: Api) -> None:
    label = 'a&b=ü"><\r\nSet-Cookie: x'
    for _ in range(3):
        api.create(user_id=label)

    link = api.get("/sessions", params={"user_id": label, "limit": "1"}).headers["Link"]

    assert link.isascii()
    assert link.isprintable()
    found = [page.json()[0]["user_id"] for page in pages(api, link[len("</api/v1") : link.index(">")])]
    assert set(found) == {label}


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "A" * 27, "%00", "é", "A" * 5000])
def test_a_cursor_that_is_none_is_refused(plain: Api, cursor: str) -> None:
    answer = plain.get("/sessions", params={"cursor": cursor})

    assert (answer.status_code, answer.json()["error_code"]) == (422, "VALIDATION_FAILED")


def test_another_owners_cursor_is_a_place_and_shows_nothing(api: Api, label: str) -> None:
    for _ in range(2):
        api.create(user_id=label)
    link = api.get(f"/sessions?user_id={label}&limit=1").links["next"]["url"]

    bob = api.as_("bob-key")
    assert api.client.get(link, headers=bob.headers).json() == []


def test_metadata_is_found_by_what_it_says(api: Api, label: str) -> None:
    one = str(api.create(user_id=label, metadata={"team": "red", "n": 5, "deep": {"a": 1}}))
    two = str(api.create(user_id=label, metadata={"team": "red", "n": "5", "on": True, "a.b": "ü"}))

    assert listed(api, label, **{"metadata.team": "red"}) == [two, one]
    assert listed(api, label, **{"metadata.n": "5"}) == [two, one]
    assert listed(api, label, **{"metadata.n": "5.0"}) == [one]
    assert listed(api, label, **{"metadata.on": "true"}) == [two]
    assert listed(api, label, **{"metadata.a.b": "ü"}) == [two]
    assert listed(api, label, **{"metadata.team": "red", "metadata.on": "true"}) == [two]
    assert listed(api, label, **{"metadata.deep": '{"a": 1}'}) == []
    assert listed(api, label, **{"metadata.team": "blue"}) == []
    assert listed(api, label, **{"metadata.n": "9" * 3000}) == []
    assert listed(api, label, **{"metadata.n": "1e999"}) == []


@pytest.mark.parametrize(
    "query", ["metadata.a=1&metadata.a=2", "&".join(f"metadata.{n}=1" for n in range(11)), "metadata.a=%00"]
)
def test_a_filter_on_metadata_that_nobody_means_is_refused(plain: Api, query: str) -> None:
    answer = plain.get(f"/sessions?{query}")

    assert (answer.status_code, answer.json()["error_code"]) == (422, "VALIDATION_FAILED")


def test_sessions_are_found_by_when_they_were_made(api: Api, label: str) -> None:
    made = [str(api.create(user_id=label)) for _ in range(3)]
    times = [api.get(f"/sessions/{session_id}").json()["created_at"] for session_id in made]
    middle = datetime.fromisoformat(times[1])
    just_before, just_after = iso(middle - timedelta(milliseconds=1)), iso(middle + timedelta(milliseconds=1))

    assert listed(api, label, created_after=just_before) == made[:0:-1]
    assert listed(api, label, created_before=just_after) == made[1::-1]
    assert listed(api, label, created_after=just_before, created_before=just_after) == [made[1]]
    assert listed(api, label, created_after=EARLY, created_before=LATE) == made[::-1]
    assert listed(api, label, created_after=LATE) == listed(api, label, created_before=EARLY) == []
    zoned = api.get(f"/sessions?user_id={label}&created_after={(middle - timedelta(milliseconds=1)).isoformat()}")
    assert [session["session_id"] for session in zoned.json()] == made[:0:-1]


@pytest.mark.parametrize("text", ["soon", "1723100000", "2025-13-01", "", "2025-08-08T07:15:00+99:00"])
def test_a_time_that_is_none_is_refused(plain: Api, text: str) -> None:
    answer = plain.get("/sessions", params={"created_after": text})

    assert (answer.status_code, answer.json()["error_code"]) == (422, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    "text",
    [
        "2025-08-08T07:15:00Z",
        "2025-08-08T09:15:00+02:00",
        "2025-08-08T09:15:00 02:00",
        "2025-08-08 07:15",
        "20250808T071500Z",
    ],
)
def test_a_time_may_be_spelt_in_many_ways(text: str) -> None:
    assert moment(text) == datetime(2025, 8, 8, 7, 15, tzinfo=UTC)


def test_a_count_is_of_what_the_key_may_see(api: Api, holder: Holder, label: str) -> None:
    for _ in range(3):
        api.create(user_id=label)
    holder.run(UUID(listed(api, label)[0]))

    def counted(key: str, more: str = "") -> str:
        return str(api.as_(key).get(f"/sessions?user_id={label}&count=true&limit=1{more}").headers["X-Total-Count"])

    assert (counted("ada-key"), counted("bob-key"), counted("root-key")) == ("3", "0", "3")
    assert counted("ada-key", "&status=active&status=failed") == "1"
