"""A whole installation as an operator watches it: two web processes, worker, beat, mirror, webhooks, Flower, a NATS of its own."""

from __future__ import annotations

import urllib.request
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from jelmore.embedded import Nats
from jelmore.embedded.server import free_port
from tests.checks import eventually
from tests.collector import Collector
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
    collector: Collector
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
    collector = Collector()
    settings = {
        "WEB_CONCURRENCY": "2",
        "WORKER_SLOTS": "8",
        "NATS_URL": nats.url,
        "LOG_FILE": str(home / "app.log"),
        "LOG_LEVEL": "DEBUG",
        "METRICS_PORT": str(free_port()),
        "WEBHOOK_ALLOW_PRIVATE": ALLOWED,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    try:
        with installed(home, database_url, **settings) as service:
            mirror = service._member("mirror", ("streams.mirror",), {})
            webhooks = service._member("webhooks", ("streams.webhooks",), {})
            all_of_it = Watched(service, nats, collector, mirror, webhooks, 0, int(settings["METRICS_PORT"]))
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
        collector.close()
        nats.stop()


Numbers = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=15) as answer:
        return str(answer.read().decode())


def parsed(text: str) -> tuple[set[str], Numbers]:
    """Return the families' names and all samples; fail on a family that is told twice."""
    names: list[str] = []
    samples: Numbers = {}
    for family in text_string_to_metric_families(text):
        names.append(family.name)
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in samples, key
            samples[key] = sample.value
    twice = [name for name, times in Counter(names).items() if times > 1]
    assert not twice, (twice, text[-6000:])
    return set(names), samples


def total(numbers: Numbers, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have these labels."""
    wanted = labels.items()
    return sum(value for (each, has), value in numbers.items() if each == name and wanted <= set(has))


def ports(plant: Watched) -> dict[str, int]:
    """Return where each process that is no web process shows its numbers."""
    told = [line for member in plant.members for line in member.lines() if line["event"] == "metrics are shown"]
    return {line["process"]: line["port"] for line in told}


def everything(plant: Watched) -> Numbers:
    """Return the numbers of web and worker as one."""
    numbers: Numbers = defaultdict(float)
    for port in (plant.service.port, ports(plant)["worker"]):
        for key, value in parsed(scraped(port))[1].items():
            numbers[key] += value
    return dict(numbers)
