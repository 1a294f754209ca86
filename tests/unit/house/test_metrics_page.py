"""docs/metrics.md tells of every metric there is, as it is, and of no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from prometheus_client.metrics import MetricWrapperBase

from core import metrics

ROOT: Final = Path(__file__).resolve().parents[3]
ROW: Final = re.compile(r"^\| `(jelmore_\w+)` \| (\w+) \| ([^|]+) \| .+ \|$", re.MULTILINE)


def shown(metric: MetricWrapperBase) -> tuple[str, str, tuple[str, ...]]:
    (described,) = metric.describe()
    name = f"{described.name}_total" if described.type == "counter" else described.name
    return name, described.type, tuple(metric._labelnames)


def test_the_page_of_metrics_has_each_once_with_its_type_and_labels() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    told = [(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(page)]
    there = [shown(metric) for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    there += [(name, "gauge", labels) for name, (_, labels) in metrics.NOW.items()]

    assert sorted(told) == sorted(there)
