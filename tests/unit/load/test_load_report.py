"""What is made of a load run's numbers, and that artillery's file asks for what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tests.load.plots import plot
from tests.load.report import Run, Sample, write
from tests.load.speaking import Broken, Told, told

BEGAN = 1_900_000_000
ROOT = Path(__file__).parents[3]
SCENARIOS = ROOT / "tests" / "load" / "api-load-test.yml"


def a_run(
    *, rates: list[float] | None = None, web: list[float] | None = None, failed: int = 0, stumbled: int = 0
) -> Run:
    """Return a run of thirty seconds; `rates`, `web`: requests a second and MiB in each third of it."""
    seconds = range(30)
    history = [
        {"Timestamp": str(BEGAN + at), "Name": name, "User Count": "8", "Failures/s": "0", "Requests/s": str(rate)}
        | {"50%": "N/A" if at == 0 else "5", "95%": "9", "99%": "20"}
        for at in seconds
        for rate in [(rates or [100, 100, 100])[at // 10]]
        for name in ("create", "Aggregated")
    ]
    totals = [
        {"Name": name, "Request Count": "3000", "Failure Count": str(failed), "Requests/s": "100.123"}
        | {"50%": "5", "95%": "9", "99%": "20", "100%": "31"}
        for name in ("create", "Aggregated")
    ]
    failures = [{"Name": "create", "Error": "Broken('<503>')", "Occurrences": str(failed)}] if failed else []
    exceptions = [{"Count": str(stumbled), "Message": "no STEADY"}] if stumbled else []
    memory = [Sample("web", BEGAN + at, (web or [200, 300, 300])[at // 10]) for at in seconds]
    return Run(history, totals, failures, exceptions, memory, users=8, seconds=30)


def test_a_run_in_which_all_went_well_is_good() -> None:
    run = a_run()

    assert run.is_good
    assert run.verdicts() == [
        "3000 requests by 8 users in 30 s, 100 a second; 0 failed.",
        "Memory of web is flat: 300 MiB in the middle third, 300 in the last.",
    ]


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (a_run(failed=2), "2 x create: Broken('<503>')"),
        (a_run(stumbled=3), "3 x no STEADY"),
        (a_run(rates=[100, 100, 60]), "Throughput fell towards the end."),
        (a_run(web=[200, 300, 400]), "Memory of web grows: 300 MiB in the middle third, 400 in the last."),
    ],
)
def test_what_went_wrong_is_said(run: Run, said: str) -> None:
    assert not run.is_good
    assert said in "\n".join(run.verdicts())


def test_the_page_has_every_plot_and_needs_nothing_else(tmp_path: Path) -> None:
    page = write(a_run(failed=1), tmp_path).read_text()

    drawn = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    titles = [
        next(iter(svg.itertext())).strip() or next(text for text in svg.itertext() if text.strip()) for svg in drawn
    ]
    assert titles == [
        "Requests a second",
        "Failures a second",
        "Milliseconds: create",
        "Memory of its own, MiB",
        "Users",
    ]
    assert all(svg.findall("{http://www.w3.org/2000/svg}polyline") for svg in drawn)
    assert "Broken(&#x27;&lt;503&gt;&#x27;)" in page
    assert not re.search(r"<(script|link|img)\b|\bsrc=|NaN", page)


def test_a_plot_of_nothing_is_empty() -> None:
    ElementTree.fromstring(plot("nothing & nobody", {"none": [], "one": [(0.0, 0.0)]}))


def test_an_event_is_read_and_what_is_none_is_not() -> None:
    event = told(b'id: 7\nevent: output\ndata: {"content": "\xc3\xa9", "offset": 4}')

    assert event == Told("7", "output", {"content": "é", "offset": 4})
    assert event.content == b"\xc3\xa9"
    event.check_offset(4)
    with pytest.raises(Broken, match="byte 4 instead of 3"):
        event.check_offset(3)
    assert told(b": still here") is None
    assert told(b"retry: 1000") is None


def test_artillery_asks_for_what_there_is() -> None:
    written = yaml.safe_load(SCENARIOS.read_text())
    described = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]
    there = {(method.upper(), re.sub(r"\{.*?\}", "ID", path)) for path, item in described.items() for method in item}
    asked = {
        (method.upper(), re.sub(r"\{\{.*?\}\}", "ID", step["url"]).partition("?")[0])
        for scenario in written["scenarios"]
        for flow in scenario["flow"]
        for method, step in flow.items()
    }

    assert asked - there == set()
