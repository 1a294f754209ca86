"""Webhooks over HTTP: made, shown without their secret, changed, removed; each owner's own. Nobody delivers here."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text, update

from core.ids import uuid7
from models import deliveries, feed, outbox, webhooks
from models.events import BEGINNING, EventKind, NewEvent, Origin
from models.tables import AuditRow, KeptAnswer, Webhook, WebhookDelivery
from models.webhooks import MOST_OF_AN_OWNER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    import httpx2

    from app.web import Web
    from tests.integration.app.serving import Api

URL = "https://example.org/hook?token=in-the-query"
SPELLING = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")
MEMBERS = {
    *("id", "owner", "url", "event_types", "description", "active", "disabled_reason", "failures", "resting_until"),
    *("previous_until", "created_at", "created_by", "updated_at"),
}
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(autouse=True)
def _none_is_left(web: Web) -> Iterator[None]:
    """Others ask for this database's health, and nobody delivers."""
    yield
    with web.database.transaction() as tx:
        for row in tx.scalars(select(Webhook)):
            webhooks.remove(tx, row)


def make(api: Api, **more: Any) -> dict[str, Any]:
    answer = api.post("/webhooks", {"url": URL, **more})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


def patch(api: Api, made: dict[str, Any], body: Any) -> httpx2.Response:
    return api.call("PATCH", f"/webhooks/{made['id']}", json=body)


def happen(web: Web, session: UUID, owner: str = "ada", count: int = 1) -> None:
    for _ in range(count):
        with web.database.transaction() as tx:
            outbox.add(tx, NewEvent(EventKind.SESSION_INPUT, owner, datetime.now(UTC), Origin("test"), session))


def queue(web: Web) -> None:
    """Do what a deliverer does, but for delivering."""
    more = 1
    while more:
        with web.database.transaction() as tx:
            more = deliveries.queue_news(tx)


def test_a_webhook_shows_its_secret_once_and_never_again(api: Api, web: Web) -> None:
    answer = api.post("/webhooks", {"url": URL, "description": "ci"})
    made = answer.json()
    assert (answer.status_code, set(made)) == (201, MEMBERS | {"secret"})
    assert SPELLING.fullmatch(made["secret"])
    assert answer.headers["Location"] == f"/api/v1/webhooks/{made['id']}"
    assert (made["owner"], made["created_by"], made["active"], made["failures"]) == ("ada", "ada", True, 0)
    assert made["event_types"] == sorted(kind for kind in EventKind if kind.startswith("session."))

    shown, listed = api.get(f"/webhooks/{made['id']}"), api.get("/webhooks")
    assert set(shown.json()) == MEMBERS
    assert listed.json() == [shown.json()]
    with web.database.transaction() as tx:
        row = tx.scalars(select(AuditRow).where(AuditRow.target == made["id"])).one()
        assert "whsec" not in repr(tx.get_one(Webhook, row.target))
    assert (row.action, row.detail["host"] if row.detail else None) == ("webhook.create", "example.org")
    assert "in-the-query" not in str(row.detail)


def test_a_repeat_of_the_request_makes_no_other_and_tells_no_secret(api: Api, web: Web) -> None:
    key = {"Idempotency-Key": str(uuid7())}
    first, again = (api.post("/webhooks", {"url": URL}, headers=key) for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == {name: value for name, value in first.json().items() if name != "secret"}
    assert len(api.get("/webhooks").json()) == 1
    with web.database.transaction() as tx:
        assert not [kept for kept in tx.scalars(select(KeptAnswer)) if "whsec_" in kept.body]


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"url": None}, {"url": 7}, {"url": "ftp://example.org/"}, {"url": "https://user:pass@example.org/"}),
        *({"url": "http://127.0.0.1/"}, {"url": "http://2130706433:8080/"}, {"url": "https://[::ffff:10.0.0.1]/"}),
        *({"url": "http://169.254.169.254/latest"}, {"url": "https://example.org:25/"}, {"url": "https://a/#x"}),
        *({"url": URL, "event_types": []}, {"url": URL, "event_types": ["session.*"]}, {"url": URL, "events": []}),
        *({"url": URL, "event_types": [7]}, {"url": URL, "secret": "whsec_short"}, {"url": URL, "secret": "x" * 40}),
        *({"url": URL, "secret": "whsec_" + "A" * 31}, {"url": URL, "active": "yes"}, {"url": URL, "description": ""}),
        *({"url": URL, "description": "a\x07"}, {"url": "https://" + "a" * 3000}, {"url": URL, "owner": "bob"}),
    ],
)
def test_what_cannot_be_is_refused(plain: Api, body: Any) -> None:
    answer = plain.post("/webhooks", body)

    assert code(answer) == (422, "VALIDATION_FAILED")
    assert "pass@" not in answer.text
    assert plain.get("/webhooks").json() == []


def test_a_webhook_is_changed_in_what_is_said_and_in_nothing_else(api: Api, web: Web) -> None:
    made = make(api, description="mine", event_types=["session.failed", "session.completed", "session.failed"])
    assert made["event_types"] == ["session.completed", "session.failed"]
    other = "whsec_" + base64.b64encode(b"another secret of 24 ...").decode()

    changed = patch(api, made, {"url": "https://example.org/new", "secret": other, "active": None})
    assert changed.status_code == 200, changed.text
    assert changed.json()["url"] == "https://example.org/new"
    kept = ("description", "event_types", "active", "created_at", "owner")
    assert {name: changed.json()[name] for name in kept} == {name: made[name] for name in kept}
    assert changed.json()["previous_until"] > made["created_at"]
    assert "whsec" not in changed.text
    assert patch(api, made, {"active": False}).json()["active"] is False
    bad: Any
    for bad in ({"url": "http://10.0.0.1/"}, {"secret": "short"}, {"id": NOBODY}, []):
        assert code(patch(api, made, bad)) == (422, "VALIDATION_FAILED")
    with web.database.transaction() as tx:
        rows = tx.scalars(
            select(AuditRow).where(AuditRow.target == made["id"], AuditRow.outcome == "ok").order_by(AuditRow.id)
        ).all()
    assert [row.action for row in rows] == ["webhook.create", "webhook.update", "webhook.update"]
    assert rows[1].detail == {"changed": ["secret", "url"]}


def test_what_is_removed_is_not_there_any_more(api: Api) -> None:
    made = make(api)
    assert api.delete(f"/webhooks/{made['id']}").json()["id"] == made["id"]

    for method, path in ROUTES:
        answer = api.call(method, path.format(made["id"]), **({"json": {}} if method == "PATCH" else {}))
        assert code(answer) == (404, "WEBHOOK_NOT_FOUND"), (method, path)


ROUTES = [
    *(("GET", "/webhooks/{}"), ("PATCH", "/webhooks/{}"), ("DELETE", "/webhooks/{}"), ("POST", "/webhooks/{}/ping")),
    *(("POST", f"/webhooks/{{}}/redeliver?from={NOBODY}"), ("GET", "/webhooks/{}/deliveries")),
]


def test_anothers_webhook_is_answered_like_one_that_never_was(api: Api) -> None:
    made, bob = make(api), api.as_("bob-key")
    for method, path in ROUTES:
        body: dict[str, Any] = {"json": {}} if method == "PATCH" else {}
        answers = [bob.call(method, path.format(which), **body) for which in (made["id"], NOBODY, "nonsense")]
        told = {(each.status_code, each.json()["detail"], each.json()["error_code"]) for each in answers}
        assert told == {(404, "There is no such webhook.", "WEBHOOK_NOT_FOUND")}, (method, path)
    assert bob.get("/webhooks").json() == []
    assert api.get(f"/webhooks/{made['id']}").json()["url"] == URL
    assert [each["id"] for each in api.as_("root-key").get("/webhooks").json()] == [made["id"]]


def test_pages_follow_one_another(api: Api) -> None:
    made = [make(api)["id"] for _ in range(5)]
    found, path = [], "/webhooks?limit=2"
    while path:
        answer = api.get(path)
        found += [each["id"] for each in answer.json()]
        path = answer.links["next"]["url"].removeprefix("/api/v1") if "next" in answer.links else ""

    assert found == made[::-1]
    assert code(api.get("/webhooks?cursor=nonsense")) == (422, "VALIDATION_FAILED")


def test_an_owner_has_so_many_and_no_more(plain: Api) -> None:
    for _ in range(MOST_OF_AN_OWNER):
        make(plain)

    assert code(plain.post("/webhooks", {"url": URL})) == (409, "TOO_MANY_WEBHOOKS")
    make(plain.as_("bob-key"))


def test_the_log_shows_what_waits_in_pages_and_by_status(api: Api, web: Web) -> None:
    happen(web, uuid7())
    made, off = make(api), make(api, active=False)
    session = uuid7()
    happen(web, session, count=3)
    happen(web, session, owner="bob")
    queue(web)
    path = f"/webhooks/{made['id']}/deliveries"

    shown = api.get(path).json()
    assert [(each["status"], each["attempts"], each["session_id"]) for each in shown] == [
        ("pending", 0, str(session)),
    ] * 3
    assert [each["next_attempt_at"] is not None for each in shown] == [False, False, True], "one after the other"
    first = api.get(f"{path}?limit=2")
    second = api.get(first.links["next"]["url"].removeprefix("/api/v1"))
    assert first.json() + second.json() == shown
    assert "next" not in second.links
    assert api.get(f"{path}?status=dead").json() == []
    assert code(api.get(f"{path}?status=lost")) == (422, "VALIDATION_FAILED")
    assert api.get(f"/webhooks/{off['id']}/deliveries").json() == []


def test_one_that_is_off_is_not_pinged_and_sends_again_when_it_is_on(api: Api, web: Web) -> None:
    session = uuid7()
    happen(web, session, count=3)
    with web.database.transaction() as tx:
        found = [str(row.id) for row in feed.read(tx, BEGINNING, limit=10_000) if row.session_id == session]
    made = make(api, active=False)

    assert code(api.post(f"/webhooks/{made['id']}/ping", None)) == (409, "WEBHOOK_INACTIVE")
    again = api.call("POST", f"/webhooks/{made['id']}/redeliver?from={found[1]}")
    assert (again.status_code, again.json()) == (202, {"queued": 2, "next_from": None})
    assert len(api.get(f"/webhooks/{made['id']}/deliveries").json()) == 2
    for bad in ("", "?from=", "?from=nonsense"):
        assert code(api.call("POST", f"/webhooks/{made['id']}/redeliver{bad}")) == (422, "VALIDATION_FAILED")


def test_the_log_is_kept_for_its_retention_and_no_longer(plain: Api, web: Web) -> None:
    made = make(plain)
    happen(web, uuid7(), count=4)
    queue(web)
    long_ago = datetime.now(UTC) - timedelta(days=31)
    with web.database.transaction() as tx:
        some = select(WebhookDelivery.id).order_by(WebhookDelivery.id).limit(3)
        tx.execute(update(WebhookDelivery).where(WebhookDelivery.id.in_(some)).values(queued_at=long_ago))
    before = datetime.now(UTC) - timedelta(days=30)
    removed = []
    for _ in range(3):
        with web.database.transaction() as tx:
            removed.append(deliveries.forget_old(tx, before, limit=2))

    assert removed == [2, 1, 0]
    assert len(plain.get(f"/webhooks/{made['id']}/deliveries").json()) == 1


def test_a_row_that_is_committed_late_is_queued_in_its_place(plain: Api, web: Web) -> None:
    made = make(plain)
    early, late = uuid7(), uuid7()
    with web.database.transaction() as slow:
        event = NewEvent(EventKind.SESSION_INPUT, "ada", datetime.now(UTC), Origin("test"), early)
        outbox.add(slow, event)
        slow.execute(text("SELECT 1"))
        happen(web, late)
        queue(web)
        assert plain.get(f"/webhooks/{made['id']}/deliveries").json() == []
    queue(web)
    shown = plain.get(f"/webhooks/{made['id']}/deliveries").json()

    assert [each["session_id"] for each in shown] == [str(late), str(early)], "the newest first"
