"""How findings are shown: lines for people, JSON for programs. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jelmore.doctor.findings import Finding

MARKS: Final = {"well": "ok", "wrong": "WRONG", "note": "note"}
MARGIN: Final = 7
WIDTH: Final = 100


def is_well(findings: Iterable[Finding]) -> bool:
    """Whether nothing is wrong."""
    return all(finding.state != "wrong" for finding in findings)


def as_json(findings: Sequence[Finding]) -> str:
    """Return them as one JSON object."""
    return json.dumps({"well": is_well(findings), "findings": [asdict(each) for each in findings]}, indent=2)


def as_text(findings: Sequence[Finding]) -> str:
    """Return them as lines: what is wrong last, where it is still on the screen."""
    ordered = sorted(findings, key=lambda finding: finding.state == "wrong")
    faults = sum(finding.state == "wrong" for finding in findings)
    outcome = "All is well." if not faults else f"{faults} thing{' is' if faults == 1 else 's are'} wrong."
    return "\n".join([*(line for finding in ordered for line in _lines(finding)), "", outcome])


def _lines(finding: Finding) -> list[str]:
    said = wrap(finding.says, WIDTH - MARGIN, break_long_words=False, break_on_hyphens=False)
    does = wrap(finding.does, WIDTH - MARGIN, break_long_words=False, break_on_hyphens=False)
    first = f"{MARKS[finding.state]:<{MARGIN - 1}} {said[0] if said else ''}"
    return [first, *(" " * MARGIN + line for line in [*said[1:], *does])]
