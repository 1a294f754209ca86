"""A whole installation as an operator watches it: two web processes, worker, beat, mirror, webhooks, Flower, a NATS of its own."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jelmore.embedded import Nats
from jelmore.embedded.server import free_port
from tests.checks import eventually
from tests.receivers import ALLOWED
from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.member import Member
    from tests.service import Service


@dataclass
class Watched:
    """The installation, and what of it is no part of the usual one."""

    service: Service
    nats: Nats
    mirror: Member
    webhooks: Member
    flower_port: int
    metrics_port: int

    @property
    def members(self) -> list[Member]:
        return [*self.service.members(), self.mirror, self.webhooks]

    @property
    def log_file(self) -> Path:
        return self.service.home / "app.log"

    def lines_about(self, request_id: str) -> dict[str, list[dict[str, Any]]]:
        """Return what every process has said of a request, by the process's own name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for member in self.members:
            for line in member.lines():
                if line.get("request_id") == request_id:
                    found.setdefault(line["process"], []).append(line)
        return found


@contextmanager
def watched(home: Path, database_url: str) -> Iterator[Watched]:
    """Start all of it."""
    home.mkdir(parents=True, exist_ok=True)
    nats = Nats(home / "servers", fast=True)
    nats.start()
    settings = {
        "WEB_CONCURRENCY": "2",
        "WORKER_SLOTS": "8",
        "NATS_URL": nats.url,
        "LOG_FILE": str(home / "app.log"),
        "LOG_LEVEL": "DEBUG",
        "METRICS_PORT": str(free_port()),
        "WEBHOOK_ALLOW_PRIVATE": ALLOWED,
    }
    try:
        with installed(home, database_url, **settings) as service:
            mirror = service._member("mirror", ("streams.mirror",), {})
            webhooks = service._member("webhooks", ("streams.webhooks",), {})
            all_of_it = Watched(service, nats, mirror, webhooks, 0, int(settings["METRICS_PORT"]))
            try:
                for member in (mirror, webhooks):
                    member.start()
                all_of_it.flower_port = service.start_flower()
                service.start("one")
                eventually(lambda: "this mirror works" in mirror.said(), 20)
                yield all_of_it
            finally:
                for member in (mirror, webhooks):
                    member.stop()
    finally:
        nats.stop()
