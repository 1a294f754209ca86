"""Metrics are well named, and several processes' numbers become one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client import Gauge
from prometheus_client.metrics import MetricWrapperBase

from core import metrics

if TYPE_CHECKING:
    from pathlib import Path

DECLARED = {name: metric for name, metric in vars(metrics).items() if isinstance(metric, MetricWrapperBase)}
FOLLOW = "from core import metrics; metrics.FOLLOWERS.labels('sse').inc(2); metrics.ENTRIES.inc(5);"
SHOW = "import sys; sys.stdout.buffer.write(metrics.render()[0])"
LEAVE = "import os; from prometheus_client import multiprocess; multiprocess.mark_process_dead(os.getpid())"


def run(program: str, directory: Path | None = None) -> str:
    env = {"PATH": os.defpath} | ({"PROMETHEUS_MULTIPROC_DIR": str(directory)} if directory else {})
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("metric", DECLARED.values(), ids=list(DECLARED))
def test_a_metric_has_our_prefix_and_says_what_it_counts(metric: MetricWrapperBase) -> None:
    (described,) = metric.describe()

    assert re.fullmatch(r"jelmore_[a-z_]+", described.name)
    assert described.documentation


@pytest.mark.parametrize("metric", [m for m in DECLARED.values() if isinstance(m, Gauge)])
def test_gauges_are_sums_over_living_processes(metric: Gauge) -> None:
    assert metric._multiprocess_mode == "livesum"


def test_one_process_shows_its_own_numbers() -> None:
    shown = run(FOLLOW + SHOW)

    assert 'jelmore_stream_followers{transport="sse"} 2.0' in shown
    assert "jelmore_log_entries_total 5.0" in shown


def test_processes_that_share_a_directory_show_their_sum(tmp_path: Path) -> None:
    run(FOLLOW, tmp_path)
    shown = run(FOLLOW + SHOW, tmp_path)

    assert 'jelmore_stream_followers{transport="sse"} 4.0' in shown
    assert "jelmore_log_entries_total 10.0" in shown


def test_a_gone_process_follows_nothing_but_has_counted(tmp_path: Path) -> None:
    run(FOLLOW + LEAVE, tmp_path)
    shown = run(FOLLOW + SHOW, tmp_path)

    assert 'jelmore_stream_followers{transport="sse"} 2.0' in shown
    assert "jelmore_log_entries_total 10.0" in shown


def test_importing_opens_no_registry_of_its_own() -> None:
    assert run("import core.metrics, prometheus_client as p; print(len(list(p.REGISTRY.collect())) > 20)") == "True\n"


def test_rendering_says_what_it_is() -> None:
    text, content_type = metrics.render()

    assert content_type.startswith("text/plain")
    assert text.endswith(b"\n")
