"""The soak's checker finds what it is there to find, and nothing where all is well."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.soak.checker import check, difference_of
from tests.soak.stories import Fault, Glance, Row, Run, Seen, Sent, Story

if TYPE_CHECKING:
    from collections.abc import Callable

SAID = b"".join(b"1.%d a line of some length, so that holes can be told\n" % number for number in range(50))
LINE = SAID.index(b"\n") + 1


def story(output: bytes = SAID, plan: str = "quit 0", **shown: Any) -> Story:
    """A session that was printed to, spoken to and ended as it should, but for what is given."""
    told = Story("00-000", plan, created="accepted", session_ids=["s"])
    status, reason, code = ("completed", "exited", 0)
    told.shown = {
        "status": status,
        "reason": reason,
        "exit_code": code,
        "exit_signal": None,
        "worker": "one",
        "attempt": 1,
        "output_bytes": len(output),
        "created_at": 100.0,
        "terminated_at": 110.0,
    } | shown
    told.output = output
    told.runs = [Run(SAID, len(SAID), ("0 hello", "quit 0"))]
    told.sent = [Sent("0 hello", "accepted", 1), Sent("quit 0", "accepted", 2)]
    told.rows = [Row(1, "input", "0 hello", "written"), Row(2, "input", "quit 0", "written")]
    told.readers = [seen(told)]
    return told


def seen(told: Story, content: bytes | None = None) -> Seen:
    """A reader who got everything, or this."""
    content = told.output if content is None else content
    assert told.shown is not None
    end = {name: told.shown[name] for name in ("status", "reason", "exit_code", "exit_signal")}
    end |= {"output_bytes": len(told.output), "output_sha256": hashlib.sha256(told.output).hexdigest()}
    return Seen("reader", bytearray(content), 10, [], [], 3, [], end)


def lost(output: bytes = SAID, reason: str = "worker_lost", **shown: Any) -> Story:
    """The same session, but its worker was lost."""
    return story(output, status="failed", reason=reason, exit_code=None, **shown)


KILLED = Fault("kill", "one", 105.0, 106.0)


def complaints(told: Story, *faults: Fault) -> list[str]:
    return check([told], faults).violations


def test_where_all_is_well_nothing_is_found() -> None:
    assert complaints(story()) == []
    assert complaints(lost(), KILLED) == []
    assert (
        complaints(story(plan="delete", status="terminated", reason="requested", exit_code=None, exit_signal="TERM"))
        == []
    )


@pytest.mark.parametrize(
    ("output", "word"),
    [
        (SAID[:-1], "missing at the end"),
        (SAID[: 3 * LINE] + SAID[4 * LINE :], "a hole of"),
        (SAID[: 10 * LINE] + SAID[2 * LINE :], "a repeat"),
        (SAID + b"more", "more than was printed"),
        (SAID[:50] + b"!" + SAID[51:], "something else"),
    ],
)
def test_output_that_is_not_what_was_printed_is_found(output: bytes, word: str) -> None:
    assert any(word in complaint for complaint in complaints(story(output)))


def test_the_place_of_a_difference_is_exact() -> None:
    assert difference_of(SAID, SAID) is None
    assert difference_of(b"", SAID) is None
    for place in (0, 1, 700, len(SAID) - 1):
        wrong = SAID[:place] + b"\0" + SAID[place + 1 :]
        assert f"at byte {place}," in str(difference_of(wrong, SAID))


def test_a_lost_worker_may_take_the_end_of_the_output_with_it_and_nothing_else() -> None:
    found = check([lost(SAID[:-70])], [KILLED])
    assert found.violations == []
    assert [(loss.size, loss.reason) for loss in found.losses] == [(70, "worker_lost")]
    assert complaints(lost(SAID[:100] + SAID[200:]), KILLED) != []


def test_a_session_that_was_to_end_when_its_worker_was_lost_keeps_its_reason() -> None:
    told = story(SAID[:-70], "delete", status="terminated", reason="requested", exit_code=None)
    assert complaints(told, KILLED) == []
    assert complaints(told) != []


def test_a_worker_is_not_lost_for_no_reason() -> None:
    assert complaints(lost()) != []
    assert complaints(lost(), Fault("kill", "two", 105.0, 106.0)) != []
    assert complaints(lost(), Fault("kill", "one", 50.0, 51.0)) != []
    assert complaints(lost(), Fault("stop", "postgres", 90.0, 101.0)) == []


@pytest.mark.parametrize(
    "shown",
    [
        {"status": "active", "reason": None, "terminated_at": None},
        {"terminated_at": None},
        {"exit_code": 3},
        {"status": "failed", "reason": "spawn_failed"},
        {"status": "terminated", "reason": "worker_shutdown"},
        {"output_bytes": 1},
        {"attempt": 2},
    ],
)
def test_an_end_that_nothing_explains_is_found(shown: dict[str, Any]) -> None:
    assert complaints(story(**shown)) != []


def test_a_worker_that_is_asked_to_leave_ends_its_sessions() -> None:
    told = story(status="terminated", reason="worker_shutdown", exit_code=None, exit_signal="TERM")
    assert complaints(told, Fault("leave", "one", 105.0, 107.0)) == []


def test_a_reader_must_get_all_of_it_and_the_end() -> None:
    told = story()
    for broken in (
        seen(told, SAID[:-1]),
        seen(told, SAID + b"x"),
        replace(seen(told), end=None),
        replace(seen(told), faults=["entry 5 after 3"]),
        replace(seen(told), restarts=[5]),
        replace(seen(told), end=seen(story(status="failed")).end),
    ):
        told.readers = [broken, seen(told)]
        assert complaints(told) != []


def test_only_an_emptied_redis_excuses_a_reader_who_saw_more_than_is_kept() -> None:
    told = lost(SAID[:-70])
    emptied = Fault("flush", "valkey", 105.2, 105.3)
    told.readers = [replace(seen(told, SAID), faults=["status 400"]), seen(told)]
    assert complaints(told, KILLED) != []
    assert complaints(told, KILLED, emptied) == []
    told.readers = [replace(seen(told, SAID), end=None), seen(told)]
    assert complaints(told, KILLED, emptied) != []


def test_a_gap_is_told_of_only_where_redis_forgot_what_a_lost_worker_had_not_stored() -> None:
    told = lost()
    told.readers[0].gaps.append("lost")
    assert complaints(told, KILLED) != []
    assert complaints(told, KILLED, Fault("flush", "valkey", 50.0, 50.1)) != []
    assert complaints(told, KILLED, Fault("flush", "valkey", 105.2, 105.3)) == []


def test_output_that_was_shown_once_stays() -> None:
    told = story()
    told.glances = [Glance(b""), Glance(SAID[:10])]
    assert complaints(told) == []
    told.glances = [Glance(SAID[100:200])]
    assert complaints(told) != []


def repeat_an_input(told: Story) -> None:
    told.runs = [replace(told.runs[0], heard=("0 hello", "0 hello", "quit 0"))]


def swap_inputs(told: Story) -> None:
    told.runs = [replace(told.runs[0], heard=("quit 0", "0 hello"))]


def leave_one_out(told: Story) -> None:
    told.runs = [replace(told.runs[0], heard=("quit 0",))]


def forget_an_accepted_one(told: Story) -> None:
    told.rows = told.rows[1:]
    told.runs = [replace(told.runs[0], heard=("quit 0",))]


def deliver_a_refused_one(told: Story) -> None:
    told.sent[0] = Sent("0 hello", "refused")


def leave_one_in_writing(told: Story) -> None:
    told.rows[1] = replace(told.rows[1], state="writing")


def call_an_arrived_one_failed(told: Story) -> None:
    told.rows[0] = replace(told.rows[0], state="failed")


def keep_one_twice(told: Story) -> None:
    told.rows.append(Row(3, "input", "0 hello", "failed"))


@pytest.mark.parametrize(
    "wrong",
    [
        repeat_an_input,
        swap_inputs,
        leave_one_out,
        forget_an_accepted_one,
        deliver_a_refused_one,
        leave_one_in_writing,
        call_an_arrived_one_failed,
        keep_one_twice,
    ],
)
def test_an_input_that_is_lost_repeated_or_called_what_it_is_not_is_found(wrong: Callable[[Story], None]) -> None:
    told = story()
    wrong(told)
    assert complaints(told) != []


def test_what_may_have_been_accepted_may_have_arrived_or_not() -> None:
    told = story()
    told.sent.insert(1, Sent("1 perhaps", "maybe"))
    assert complaints(told) == []
    told.rows = [told.rows[0], Row(2, "input", "1 perhaps", "written"), Row(3, "input", "quit 0", "written")]
    told.sent[2] = Sent("quit 0", "accepted", 3)
    told.runs = [replace(told.runs[0], heard=("0 hello", "1 perhaps", "quit 0"))]
    assert complaints(told) == []


def test_the_end_of_input_is_read_only_after_all_input() -> None:
    told = story(plan="eof")
    told.runs = [replace(told.runs[0], heard=("0 hello",), eof=True)]
    assert complaints(told) != []
    told.runs = [replace(told.runs[0], heard=("0 hello", "quit 0"), eof=True)]
    assert complaints(told) == []


def test_one_request_makes_one_session_and_one_process() -> None:
    twice, again, accepted = story(), story(), story()
    twice.session_ids = ["s", "t"]
    again.runs = [*again.runs, again.runs[0]]
    accepted.session_ids, accepted.shown = [], None
    for told in (twice, again, accepted):
        assert complaints(told) != []


def resumed() -> Story:
    """A session whose first run lost 30 bytes with its worker."""
    second = SAID.replace(b"1.", b"2.")
    first = SAID[:-30]
    told = story(first + second, attempt=2)
    told.resumable = True
    told.runs = [Run(SAID, len(SAID), ("0 hello",)), Run(second, len(second), ("quit 0",))]
    told.readers = [replace(seen(told), restarts=[len(first)])]
    return told


def test_a_session_that_began_again_has_each_runs_output_in_turn() -> None:
    found = check([resumed()], [KILLED])
    assert found.violations == []
    assert [(loss.size, loss.reason) for loss in found.losses] == [(30, "began again")]


def test_a_second_run_loses_nothing_and_is_alone() -> None:
    short, crowd = resumed(), resumed()
    short.output = short.output[:-1]
    crowd.runs[1] = replace(crowd.runs[1], alone=False)
    assert complaints(short, KILLED) != []
    assert complaints(crowd, KILLED) != []


def test_an_attempt_that_printed_nothing_leaves_no_piece() -> None:
    told = resumed()
    second = told.runs[1].said
    assert told.shown is not None
    told.shown |= {"output_bytes": len(second)}
    told.output = second
    told.readers = [replace(seen(told), restarts=[0])]
    found = check([told], [KILLED])
    assert found.violations == []
    assert [loss.size for loss in found.losses] == [len(SAID)]
