"""A worker's stand-in, patched by gevent, that drives a keeper as told on its command line and prints what it hears."""

# ruff: noqa: E402
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import os
import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID

import gevent
from gevent.event import AsyncResult

from core.errors import SpawnFailed
from core.settings import load_settings
from models.tables import Session
from runner import confinement, launch, marks, workspaces
from runner.keeper_link import Ears, KeeperLink, SpawnRequest, boottime
from runner.plumbing import Ears as PipeEars
from runner.programs.commands import command_of

if TYPE_CHECKING:
    from runner.plumbing import Plumbing
    from runner.supervision import Exit

INCARNATION = int(sys.argv[1])


def say(*words: object) -> None:
    print(json.dumps(words), flush=True)


def tag(number: int) -> int:
    return INCARNATION << 16 | number


class Heard:
    """What the keeper reports is printed. A session with a terminal is ended as a worker would do it."""

    def __init__(self) -> None:
        self.link: KeeperLink
        self.terminals: dict[int, AsyncResult] = {}
        self.kept: list[Plumbing] = []

    def ears(self) -> Ears:
        return Ears(
            self.exited,
            self.empty,
            too_many=lambda which, count: say("many", which & 0xFFFF, count),
            lost=lambda: say("lost"),
        )

    def exited(self, which: int, how: Exit) -> None:
        say("exited", which & 0xFFFF, how.code, how.signal)
        if which in self.terminals:
            self.link.end(which)

    def empty(self, which: int) -> None:
        say("empty", which & 0xFFFF)
        if which in self.terminals:
            gevent.spawn(lambda: self.terminals[which].get().hang_up())


heard = Heard()


def main() -> None:
    marks.become_subreaper()
    link = heard.link = KeeperLink.start(INCARNATION, heard.ears())
    say("keeper", link.pid)
    gevent.spawn(keep_ticking)
    reader = gevent.get_hub().threadpool
    while line := reader.apply(sys.stdin.readline):
        order, *words = json.loads(line)
        if order == "spawn":
            number, limit, argv = words
            spawn(link, number, limit, argv)
        elif order == "session":
            run(link, *words)
        elif order == "signal":
            link.signal(tag(words[0]), words[1], whole=words[2] if words[2:] else True)
        elif order == "end":
            link.end(tag(words[0]))
        elif order == "lease":
            link.lease(boottime() + words[0])
        elif order == "close":
            link.close()
            say("closed")


def keep_ticking() -> None:
    """gevent closes descriptors at the loop's next turn; a worker's loop turns all the time."""
    while True:
        gevent.sleep(0.05)


def spawn(link: KeeperLink, number: int, limit: int, argv: list[str]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    directory = os.open("/tmp", os.O_PATH)
    environment = {"PATH": "/usr/bin:/bin"}
    limits = confinement.limits(load_settings({}))
    request = SpawnRequest(
        tag(number), tuple(argv), environment, directory, (null, null, 2), limits=limits, max_processes=limit
    )
    try:
        say("spawned", number, link.spawn(request))
    except SpawnFailed as fault:
        say("failed", number, fault.detail)
    os.close(null)
    os.close(directory)


def run(link: KeeperLink, number: int, environ: dict[str, str], facts: dict[str, Any]) -> None:
    """Run a session as a worker with these settings would; say what it printed."""
    settings = load_settings(environ)
    session = Session(**{"id": UUID(int=number), "fence": 1, "attempt": 1, "program": "shell", "env": {}} | facts)
    try:
        command = command_of(session, settings)
        place = workspaces.prepare(settings, session, command)
        ends = launch.ends_for(session, place.user)
        if session.terminal:
            heard.terminals[tag(number)] = AsyncResult()
        say("spawned", number, link.spawn(launch.request_for(tag(number), session, command, settings, place, ends)))
    except SpawnFailed as fault:
        say("failed", number, fault.detail)
        return
    ends.close_theirs()
    place.close()
    printed = bytearray()

    def told(_: str, chunk: bytes) -> None:
        printed.extend(chunk)
        say("printed", number, chunk.decode(errors="replace"))

    def drained() -> None:
        say("output", number, printed.decode(errors="replace"))

    plumbing = ends.plumbing(PipeEars(told, drained, lambda _: None, lambda *_: None))
    heard.kept.append(plumbing)
    if session.terminal:
        heard.terminals[tag(number)].set(plumbing.terminal)


main()
