"""deploy/monitoring: every query is one, asks for metrics that exist by labels that they have, and every alert is explained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import promql_parser
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from core import metrics

ROOT: Final = Path(__file__).resolve().parents[3]
MONITORING: Final = ROOT / "deploy" / "monitoring"
THEIRS: Final = {"up": {"job", "instance"}, "process_resident_memory_bytes": {"job", "instance"}}
"""Of Prometheus itself and of its Python library."""
SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
SELECTOR: Final = re.compile(r"\b(jelmore_\w+|process_\w+|up)\b(?:\{([^}]*)\})?")
GROUPED: Final = re.compile(r"\bby \(([^)]*)\)")

RULES: Final[list[dict[str, Any]]] = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
BOARD: Final[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())
SHOWN: Final = [(panel["title"], each) for panel in BOARD["panels"] for each in panel.get("targets", ())]
QUERIES: Final = [rule["expr"] for rule in RULES] + [
    each["expr"].replace("$__rate_interval", "5m") for _, each in SHOWN
]


def samples() -> dict[str, set[str]]:
    """Return every sample's name that a scrape can have, with its labels."""
    known = {name: {*labels, "job", "instance"} for name, labels in THEIRS.items()}
    known |= {name: {*labels, "job", "instance"} for name, (_, labels) in metrics.NOW.items()}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (described,) = metric.describe()
            for suffix in SUFFIXES[described.type]:
                bucket = {"le"} if suffix == "_bucket" else set()
                known[described.name + suffix] = {*metric._labelnames, "job", "instance"} | bucket
    return known


SAMPLES: Final = samples()


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_valid_and_asks_for_what_there_is(query: str) -> None:
    promql_parser.parse(query)
    asked = SELECTOR.findall(query)
    assert asked
    for name, matchers in asked:
        assert name in SAMPLES, name
        assert set(re.findall(r"(\w+)\s*(?:=|!)", re.sub(r'"[^"]*"', '""', matchers))) <= SAMPLES[name]
    labels = set().union(*(SAMPLES[name] for name, _ in asked))
    for grouped in GROUPED.findall(query):
        assert {label.strip() for label in grouped.split(",")} <= labels


def test_an_alert_says_what_is_wrong_how_urgent_it_is_and_where_to_read_on() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    explained = re.findall(r"^### (Jelmore\w+)\n\n\S", page, re.MULTILINE)

    assert [rule["alert"] for rule in RULES] == explained
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        kept = {label.strip() for grouped in GROUPED.findall(rule["expr"]) for label in grouped.split(",")}
        assert used <= (kept or {"instance", "job"})


def test_what_the_runbook_names_exists() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    book = page[page.index("## Alerts") : page.index("## Events and their mirror")]
    settings = {line.partition("=")[0] for line in (ROOT / ".env.example").read_text().splitlines()}

    for name in re.findall(r"`(jelmore_\w+)", book):
        assert name in SAMPLES or f"{name}_bucket" in SAMPLES, name
    for name in re.findall(r"`([A-Z]+_[A-Z_]+)\b", book):
        assert name in settings or name == "JELMORE_DLQ", name


def test_panels_do_not_overlap_and_have_a_legend() -> None:
    places = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    assert all(each["legendFormat"] for _, each in SHOWN)


def test_the_rules_are_those_that_prometheus_is_told_to_read() -> None:
    read = yaml.safe_load((MONITORING / "prometheus.yml").read_text())

    assert read["rule_files"] == ["alerts.yml"]
    assert all(job["static_configs"] for job in read["scrape_configs"])
