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

from core.errors import SpawnFailed
from core.settings import load_settings
from models.tables import Session
from runner import confinement, launch, marks, workspaces
from runner.keeper_link import Ears, KeeperLink, SpawnRequest, boottime
from runner.plumbing import Ears as PipeEars
from runner.programs.commands import command_of

if TYPE_CHECKING:
    from runner.plumbing import Plumbing

INCARNATION = int(sys.argv[1])


def say(*words: object) -> None:
    print(json.dumps(words), flush=True)


def tag(number: int) -> int:
    return INCARNATION << 16 | number


def main() -> None:
    marks.become_subreaper()
    ears = Ears(
        exited=lambda which, how: say("exited", which & 0xFFFF, how.code, how.signal),
        empty=lambda which: say("empty", which & 0xFFFF),
        too_many=lambda which, count: say("many", which & 0xFFFF, count),
        lost=lambda: say("lost"),
    )
    link = KeeperLink.start(INCARNATION, ears)
    say("keeper", link.pid)
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
    session = Session(**{"id": UUID(int=number), "fence": 1, "program": "shell", "env": {}} | facts)
    try:
        place = workspaces.prepare(settings, session, command_of(session, settings))
        ends = launch.ends_for(session)
        say("spawned", number, link.spawn(launch.request_for(tag(number), session, settings, place, ends)))
    except SpawnFailed as fault:
        say("failed", number, fault.detail)
        return
    ends.close_theirs()
    place.close()
    printed = bytearray()

    def heard(_: str, chunk: bytes) -> None:
        printed.extend(chunk)
        say("printed", number, chunk.decode(errors="replace"))

    def drained() -> None:
        say("output", number, printed.decode(errors="replace"))

    kept.append(ends.plumbing(PipeEars(heard, drained, lambda _: None, lambda *_: None)))


kept: list[Plumbing] = []

main()
