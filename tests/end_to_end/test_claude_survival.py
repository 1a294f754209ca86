"""Sessions of Claude Code whose worker is killed: another goes on with the conversation, and nothing is answered twice."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.checks import eventually
from tests.talks import START_SECONDS, Talk, installed_with_claude

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.programs.messages_api import MessagesApi
    from tests.service import Service

WITHIN_SECONDS: Final = 40.0
RUNS: Final = {
    "idle": "@text nothing more",
    "text": "@slow 100 0.1",
    "tool": "@bash touch begun && tail -f /dev/null",
    "question": '@tool Write {"file_path": "never", "content": "x"}',
}


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str], messages_api: MessagesApi
) -> Iterator[Service]:
    with installed_with_claude(tmp_path_factory.mktemp("survives"), new_database(), messages_api) as started:
        started.start()
        yield started


@pytest.fixture(autouse=True)
def _workers_of_its_own(service: Service) -> Iterator[None]:
    yield
    for name in [*service.workers]:
        service.dismiss(name)


def test_a_conversation_outlives_its_worker(service: Service, messages_api: MessagesApi, model: str) -> None:
    """All four at once: a worker is killed once for them."""
    service.worker("one")
    service.wait_ready("one")
    talks = {when: begin(service, messages_api, model, when) for when in RUNS}
    for talk in talks.values():
        talk.is_now("idle", seconds=START_SECONDS)
        talk.turn("the second word is lion", "lion")
    for when, talk in talks.items():
        assert talk.client.input(talk.session_id, RUNS[when]).status == 200
    arrive(talks)
    workers = {talk.shown["worker"] for talk in talks.values()}
    service.worker("two")
    service.wait_ready("two")

    for name in workers:
        service.workers[name].signal(signal.SIGKILL)

    for when, talk in talks.items():
        shown = eventually(partial(went_on, talk), WITHIN_SECONDS, every=0.2)
        assert shown["worker"] == "two", when
        if talk.is_now("idle", "active", "waiting_input")["status"] != "idle":
            assert talk.post("interrupt").status in (200, 202)
        talk.turn("@recall", "zebra")
        assert "lion" in talk.text.rpartition("you said")[2], when
        assert talk.text.count("nothing more") <= 2, "answered twice"  # as it was said, and in what it recalls
        talk.end()


def test_a_worker_that_is_told_to_leave_hands_its_conversations_over(
    service: Service, messages_api: MessagesApi, model: str
) -> None:
    service.worker("leaving")
    service.wait_ready("leaving")
    talk = Talk.begin(service.ada, messages_api, model, "the word is zebra")
    working = Talk.begin(service.ada, messages_api, model, "@slow 500 0.1")
    talk.is_now("idle", seconds=START_SECONDS)
    eventually(lambda: "word3" in working.text, START_SECONDS)
    holders = {each.shown["worker"] for each in (talk, working)}
    service.worker("staying")
    service.wait_ready("staying")

    for name in holders - {"staying"}:
        service.workers[name].signal(signal.SIGTERM)

    for each in (talk, working):
        shown = eventually(partial(went_on, each), WITHIN_SECONDS, every=0.2)
        assert shown["reason"] is None
    assert [each["reason"] for each in talk.entries("restarted")] == ["worker_shutdown"]
    talk.turn("@recall", "zebra")
    working.turn("@text goes on", "goes on")
    assert working.text.count("word1 ") == 1, "run again"
    for each in (talk, working):
        each.end()


def begin(service: Service, api: MessagesApi, model: str, when: str) -> Talk:
    options: dict[str, Any] = {"allowed_tools": ["Bash"]} if when == "tool" else {}
    return Talk.begin(service.ada, api, model, "the word is zebra", program_options=options)


def arrive(talks: dict[str, Talk]) -> None:
    """Wait until each is where its worker is to be killed."""
    talks["question"].asked()
    eventually(lambda: "word3" in talks["text"].text, START_SECONDS)
    eventually(lambda: "Bash" in talks["tool"].text, START_SECONDS)
    talks["idle"].is_now("idle")


def went_on(talk: Talk) -> dict[str, Any] | None:
    shown = talk.shown
    assert shown["status"] not in ("failed", "completed", "terminated"), shown
    return shown if shown["attempt"] > 1 and shown["status"] != "initializing" else None
