"""The transition table keeps its promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.errors import TransitionRefused
from models import lifecycle
from models.lifecycle import ENDED_BY, FINAL, LIVE, TRANSITIONS, Reason, Status, Trigger

ROOT = Path(__file__).parents[3]


def test_every_status_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Status)


def test_a_final_status_has_no_way_out() -> None:
    assert {Status.COMPLETED, Status.TERMINATED, Status.FAILED} == FINAL
    for status in FINAL:
        for trigger in Trigger:
            with pytest.raises(TransitionRefused):
                lifecycle.after(status, trigger)


def test_every_live_session_can_be_stopped_and_can_be_lost() -> None:
    for status in LIVE:
        assert lifecycle.after(status, Trigger.STOP_REQUESTED) is Status.TERMINATING
        assert lifecycle.after(status, Trigger.LOST) in FINAL


def test_a_second_request_to_stop_changes_nothing() -> None:
    assert lifecycle.after(Status.TERMINATING, Trigger.STOP_REQUESTED) is Status.TERMINATING


def test_whatever_the_exit_a_stopped_session_is_terminated_unless_a_limit_was_the_cause() -> None:
    assert lifecycle.after(Status.TERMINATING, Trigger.SUCCEEDED) is Status.TERMINATED
    assert lifecycle.after(Status.TERMINATING, Trigger.BROKE) is Status.TERMINATED
    assert lifecycle.after(Status.TERMINATING, Trigger.EXCEEDED) is Status.FAILED


def test_waiting_for_input_wins_over_idle() -> None:
    assert lifecycle.after(Status.WAITING_INPUT, Trigger.WENT_QUIET) is Status.WAITING_INPUT


def test_every_reason_ends_a_running_session_and_a_stopping_one() -> None:
    assert set(ENDED_BY) == set(Reason)
    for trigger in ENDED_BY.values():
        assert lifecycle.after(Status.ACTIVE, trigger) in FINAL
        assert lifecycle.after(Status.TERMINATING, trigger) in FINAL


def test_the_diagram_in_the_docs_is_the_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = re.search(r"```mermaid\n(stateDiagram-v2\n.*?)\n```", page, re.DOTALL)

    assert drawn is not None
    assert drawn[1] == lifecycle.diagram()
