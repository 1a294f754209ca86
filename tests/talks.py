"""Sessions of program `claude` over the HTTP interface, as their users have them, and installations that run them.

One installation has both programs: which of them a session runs, the real one or its stand-in, is said by its model's name.
"""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from core.programs import BUILT_IN_PROGRAMS
from tests.agents import MODEL, STUB, confined, real_claude
from tests.checks import eventually
from tests.client import SESSIONS, Client
from tests.programs.messages_api import DUMMY_KEY
from tests.service import FULL_LENGTH, installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client import Answer
    from tests.programs.messages_api import MessagesApi
    from tests.service import Service

STUB_MODEL: Final = "stub"
START_SECONDS: Final = 30.0
TURN_SECONDS: Final = 20.0


@contextmanager
def installed_with_claude(home: Path, database_url: str, api: MessagesApi, **settings: str) -> Iterator[Service]:
    """A service whose sessions of program `claude` run against the scripted model; not started yet."""
    if "claude" not in BUILT_IN_PROGRAMS:
        pytest.skip("the program claude of the service is not there yet")
    home.mkdir(parents=True, exist_ok=True)
    chooser = home / "claude"
    chooser.write_text(f'#!/bin/sh\ncase " $* " in *" --model={STUB_MODEL} "*) exec {STUB} "$@";; esac\n{_real()}\n')
    chooser.chmod(0o755)
    account = {"CLAUDE_BIN": str(chooser), "ANTHROPIC_API_KEY": DUMMY_KEY, "ANTHROPIC_BASE_URL": api.url}
    with installed(home, database_url, **account, **settings) as service:
        yield service


def _real() -> str:
    try:
        return f'exec {shlex.quote(str(real_claude()))} "$@"'
    except pytest.skip.Exception:
        return "exit 127"


@pytest.fixture(params=["stub", "real"] if FULL_LENGTH else ["real"])
def model(request: pytest.FixtureRequest) -> str:
    """The model's name, by which the program is chosen: the real one's, and, for those who take their time, its stand-in's."""
    if request.param == "stub":
        return STUB_MODEL
    real_claude()
    return MODEL


@dataclass
class Talk:
    """One session."""

    client: Client
    api: MessagesApi
    session_id: str

    @classmethod
    def begin(cls, client: Client, api: MessagesApi, model: str, query: str, **fields: Any) -> Talk:
        options = {"model": model, **fields.pop("program_options", {})}
        env = {**confined(api), **fields.pop("env", {})}
        session = client.create(query, program="claude", program_options=options, env=env, **fields)
        return cls(client, api, session)

    @property
    def shown(self) -> dict[str, Any]:
        return self.client.get(self.session_id)

    def is_now(self, *statuses: str, seconds: float = TURN_SECONDS) -> dict[str, Any]:
        """Wait until its status is one of these; fail at once if it ended otherwise."""

        def came() -> dict[str, Any] | None:
            shown = self.shown
            if shown["status"] not in statuses and shown["status"] in ("failed", "completed", "terminated"):
                raise RuntimeError(f"{shown['status']}: {shown['reason']} {shown['reason_detail']} {self.text[-2000:]}")
            return shown if shown["status"] in statuses else None

        return eventually(came, seconds, every=0.1)

    @property
    def text(self) -> str:
        """What a person would read."""
        return self.client.output(self.session_id).decode(errors="replace")

    def post(self, path: str, body: object = None) -> Answer:
        return self.client.request("POST", f"{SESSIONS}/{self.session_id}/{path}", body if body is not None else {})

    def turn(self, text: str, sign: str) -> None:
        """Say something; wait until the answer has come and it waits for more."""
        before = len(self.text)
        answer = self.client.input(self.session_id, text)
        assert answer.status == 200, answer.body
        eventually(lambda: sign in self.text[before:], TURN_SECONDS, every=0.1)
        self.is_now("idle")

    def requests(self) -> list[dict[str, Any]]:
        answer = self.client.request("GET", f"{SESSIONS}/{self.session_id}/requests")
        assert answer.status == 200, answer.body
        found = answer.json()
        return list(found["requests"] if isinstance(found, dict) else found)

    def asked(self) -> dict[str, Any]:
        """Wait for a question that nobody has answered."""
        self.is_now("waiting_input")
        return self.requests()[-1]

    def decide(self, request: dict[str, Any], **decision: Any) -> Answer:
        return self.post(f"requests/{request['request_id']}", decision)

    def entries(self, *kinds: str) -> list[dict[str, Any]]:
        """Return what its stream has of these kinds, up to now."""
        found = []
        last = self.shown["last_seq"]
        with self.client.follow(self.session_id) as stream:
            for event in stream:
                if event.event in kinds:
                    found.append(event.data)
                if event.id is not None and event.id >= last:
                    break
        return found

    def told(self, word: str) -> list[dict[str, Any]]:
        """Return the entries for programs in which a word stands."""
        return [entry for entry in self.entries("agent") if word in json.dumps(entry)]

    def end(self) -> None:
        assert self.client.delete(self.session_id, "?wait=20").status == 200
        assert self.shown["status"] == "terminated"
