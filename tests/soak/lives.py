"""The clients of a soak: each keeps one session after another alive, sends it input, reads it, and sees to its end.

Everything runs in threads. Nothing here decides what is right: a `Story` is gathered, `checker` judges it.
"""

from __future__ import annotations

import random
import shlex
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.client import BROKEN, SESSIONS
from tests.soak.readers import AGAIN_SECONDS, Doors, Reader, crowd
from tests.soak.stories import FINAL, Glance, Row, Run, Seen, Sent, Story

if TYPE_CHECKING:
    from tests.client import Client

COMMAND: Final = (sys.executable, "-I", "-S", str(Path(__file__).with_name("program.py")))
RESUMABLE: Final = "resumable"
"""The name of the program that begins again when its worker is lost."""
LONGEST_SECONDS: Final = 90.0
"""After that long without an end something stands still; the checker will say so."""
MINUTE: Final = 65.0
"""What a session whose time is over after a minute needs."""


@dataclass
class World:
    """What all lives share."""

    doors: Doors
    records: Path
    until: float
    """Monotonic; no session is begun after it."""
    readers: int = 2
    """Of each session."""
    stories: list[Story] = field(default_factory=list)
    deadline: threading.Event = field(default_factory=threading.Event)
    """Set when nobody shall wait any longer."""

    @property
    def left(self) -> float:
        return self.until - time.monotonic()


class Life(threading.Thread):
    """One client: a session, and after its end the next one, until the time is up."""

    def __init__(self, number: int, seed: int, world: World) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._choice = random.Random(seed)
        self._world = world
        self.failure: str | None = None

    def run(self) -> None:
        try:
            for turn in range(1000):
                if self._world.left <= 0:
                    return
                self._live(f"{self._number:02d}-{turn:03d}")
        except Exception as why:  # noqa: BLE001  (told, not swallowed: a client that fails proves nothing)
            self.failure = f"client {self._number}: {why!r}"

    # One session.

    def _live(self, token: str) -> None:
        story = Story(token, self._plan(), resumable=self._choice.random() < 0.3)
        self._world.stories.append(story)
        session_id = self._create(story)
        if session_id is None:
            time.sleep(AGAIN_SECONDS)
            return
        seed, deadline = self._choice.getrandbits(32), self._world.deadline
        readers = crowd(self._world.doors, session_id, token, self._world.readers, seed, deadline)
        story.readers = [reader.seen for reader in readers]
        self._talk(story, session_id, readers[0])
        self._end(story, session_id, readers[0])
        for reader in readers:
            reader.thread.join(LONGEST_SECONDS)

    def _plan(self) -> str:
        plans = ["delete", "quit 0", "quit 3", "lines", "crash", "eof", "eof"]
        if self._world.left > MINUTE:
            plans.append("timeout")
        return self._choice.choice(plans)

    def _create(self, story: Story) -> str | None:
        outcome, answer = self._world.doors.ask(self._choice, "POST", SESSIONS, self._request(story))
        story.created = outcome
        if outcome == "refused" and answer is not None and answer.status != 429:
            raise AssertionError(f"POST was answered {answer.status} {answer.body!r}")
        return str(answer.json()["session_id"]) if outcome == "accepted" and answer is not None else None

    def _request(self, story: Story) -> dict[str, Any]:
        habits = [habit for habit in ("deaf", "daemon") if self._choice.random() < 0.2]
        # What is typed before a program has set its terminal up is echoed: one that begins again may be typed to at once.
        terminal = self._choice.random() < 0.3 and not story.resumable
        if terminal:
            habits.append("terminal")
        if story.plan == "crash":
            habits.append("crash")
        pause = self._choice.choice((0.02, 0.1, 0.3))
        seconds = min(self._choice.uniform(1, 30), max(1.0, self._world.left))
        env = {
            "SOAK_RECORD": str(self._world.records / story.token),
            "SOAK_SEED": str(self._choice.getrandbits(32)),
            "SOAK_LINES": str(int(seconds / pause) if story.plan in ("lines", "crash") else 0),
            "SOAK_PAUSE": str(pause),
            "SOAK_HABITS": " ".join(habits),
        }
        wanted: dict[str, Any] = {"query": f"exec {shlex.join(COMMAND)}", "env": env, "metadata": {"soak": story.token}}
        if story.plan == "timeout":
            wanted["timeout_minutes"] = 1
        if story.resumable:
            wanted["program"] = RESUMABLE
        return wanted | ({"terminal": {"rows": 24, "cols": 80}} if terminal else {})

    def _talk(self, story: Story, session_id: str, reader: Reader) -> None:
        """Send numbered input for a while; a terminal's only once its program has set it up."""
        began = time.monotonic()
        until = began + (
            LONGEST_SECONDS if story.plan in ("lines", "crash", "timeout") else self._choice.uniform(1, 30)
        )
        while not reader.is_over and time.monotonic() < until and (self._world.left > 0 or not reader.seen.content):
            time.sleep(self._choice.uniform(0.05, 0.6))
            if reader.seen.content:
                self._send(story, session_id, f"{len(story.sent)} " + "wörd" * self._choice.randrange(20))
            if self._choice.random() < 0.05:
                self._glance(story, session_id)
            if story.sent and story.sent[-1].outcome == "refused":
                time.sleep(AGAIN_SECONDS)

    def _send(self, story: Story, session_id: str, text: str) -> bool:
        """Send one input, once: what may have been accepted is never sent again."""
        outcome, answer = self._world.doors.ask(self._choice, "POST", f"{SESSIONS}/{session_id}/input", {"input": text})
        number = answer.json()["input_seq"] if outcome == "accepted" and answer is not None else None
        story.sent.append(Sent(text, outcome, number))
        return outcome == "accepted"

    def _glance(self, story: Story, session_id: str) -> None:
        try:
            story.glances.append(Glance(self._world.doors.any(self._choice).output(session_id)))
        except (*BROKEN, AssertionError):
            return

    def _end(self, story: Story, session_id: str, reader: Reader) -> None:
        """Ask for the end as planned until it is known to be accepted, then wait for it."""
        asked = story.plan in ("lines", "crash", "timeout")
        give_up = time.monotonic() + LONGEST_SECONDS
        while not reader.is_over and time.monotonic() < give_up and not self._world.deadline.is_set():
            if not asked and (reader.seen.content or story.plan == "delete"):  # a terminal may not be set up before
                asked = self._ask_to_end(story, session_id)
            time.sleep(AGAIN_SECONDS)
        if not reader.is_over:
            story.deleted = True
            self._world.doors.ask(self._choice, "DELETE", f"{SESSIONS}/{session_id}?wait=0")

    def _ask_to_end(self, story: Story, session_id: str) -> bool:
        if story.plan == "delete":
            story.deleted = True
            return self._world.doors.ask(self._choice, "DELETE", f"{SESSIONS}/{session_id}?wait=0")[0] == "accepted"
        if story.plan == "eof":
            return self._world.doors.ask(self._choice, "POST", f"{SESSIONS}/{session_id}/eof", {})[0] == "accepted"
        return self._send(story, session_id, story.plan)


# After the soak.


def gather(world: World, client: Client, ids: dict[str, list[str]], rows: dict[str, list[Row]]) -> None:
    """Complete every story with what the service shows and keeps, and with its program's own record.

    `ids`: the sessions of each token; `rows`: the mailbox of each session.
    """
    for story in world.stories:
        story.runs = runs_of(world.records, story.token)
        story.session_ids = ids.get(story.token, [])
        for session_id in story.session_ids[:1]:
            shown = client.get(session_id)
            story.shown = shown | {name: epoch(shown[name]) for name in ("created_at", "terminated_at")}
            story.output = client.output(session_id)
            story.rows = rows.get(session_id, [])
            if shown["status"] in FINAL:
                story.readers.append(replay(client, session_id))


def replay(client: Client, session_id: str) -> Seen:
    """Read an ended session from its start."""
    reader = Reader(Seen("afterwards", connections=1), Doors([client.port], str(client.key)), session_id)
    for event in client.events(session_id, "?encoding=base64"):
        reader.take(event)
    return reader.seen


def epoch(instant: str | None) -> float | None:
    return None if instant is None else datetime.fromisoformat(instant).timestamp()


def runs_of(records: Path, token: str) -> list[Run]:
    """Return what each process of a session wrote down."""
    runs: list[Run] = []
    while (said := records / f"{token}.{len(runs) + 1}.said").exists():
        done = said.with_suffix(".done")
        heard = said.with_suffix(".heard")
        lines = heard.read_text().splitlines() if heard.exists() else []
        count = int(done.read_text() or 0) if done.exists() else 0
        told = tuple(line for line in lines if line != "\x04")
        runs.append(Run(said.read_bytes(), count, told, "\x04" in lines, not said.with_suffix(".twice").exists()))
    return runs
