"""A worker's stand-in, patched by gevent, that drives a keeper as told on its command line and prints what it hears."""

# ruff: noqa: E402
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import os
import sys

import gevent

from core.errors import SpawnFailed
from runner import marks
from runner.keeper_link import Ears, KeeperLink, SpawnRequest, boottime

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
        elif order == "signal":
            link.signal(tag(words[0]), words[1], whole=True)
        elif order == "end":
            link.end(tag(words[0]))
        elif order == "lease":
            link.lease(boottime() + words[0])
        elif order == "close":
            link.close()
            say("closed")


def spawn(link: KeeperLink, number: int, limit: int, argv: list[str]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    environment = {"PATH": "/usr/bin:/bin"}
    request = SpawnRequest(tag(number), tuple(argv), environment, "/tmp", (null, null, 2), max_processes=limit)
    try:
        say("spawned", number, link.spawn(request))
    except SpawnFailed as fault:
        say("failed", number, fault.detail)
    os.close(null)


main()
