"""Decisions about a process, without a process and without time."""

from __future__ import annotations

from signal import SIGCONT, SIGTERM

import pytest

from models.lifecycle import Reason
from runner.supervision import (
    SWEEP_LIMIT_SECONDS,
    AskToLeave,
    EndAll,
    Exit,
    Finish,
    MarkStopping,
    ReplaceKeeper,
    Rules,
    Signal,
    Stop,
    Supervision,
)

BORED = Stop(Reason.REQUESTED, "bored")
ZERO = Exit(0, None)


@pytest.fixture
def supervision() -> Supervision:
    return Supervision(Rules(grace_seconds=5, run_seconds=60, drain_seconds=3, max_output_bytes=1000))


@pytest.fixture
def running(supervision: Supervision) -> Supervision:
    assert supervision.started(now=0) == []
    return supervision


def test_an_exit_is_told_only_after_the_sweep_and_the_last_byte(running: Supervision) -> None:
    assert running.exited(Exit(7, None), now=1) == [EndAll()]
    assert running.emptied(now=1) == []
    assert running.drained() == [Finish(Reason.EXIT_CODE, None, Exit(7, None))]
    assert running.over


def test_output_that_ends_before_the_exit_waits_for_the_sweep(running: Supervision) -> None:
    assert running.drained() == []
    assert running.exited(ZERO, now=1) == [EndAll()]
    assert running.emptied(now=1) == [Finish(Reason.EXITED, None, ZERO)]


def test_a_deaf_process_is_killed_after_the_grace(running: Supervision) -> None:
    assert running.stop(BORED, now=5) == [MarkStopping(BORED), Signal(SIGTERM), Signal(SIGCONT)]
    assert running.tick(now=9.9) == []
    assert running.tick(now=10) == [EndAll()]
    assert running.tick(now=10.1) == []


def test_the_first_wish_to_stop_stands(running: Supervision) -> None:
    running.stop(BORED, now=5)

    assert running.stop(Stop(Reason.REVOKED), now=6) == []
    running.exited(ZERO, now=7)
    running.emptied(now=7)
    assert running.drained() == [Finish(Reason.REQUESTED, "bored", ZERO)]


def test_a_stop_before_the_start_takes_effect_at_the_start(supervision: Supervision) -> None:
    assert supervision.stop(BORED, now=0) == []
    assert supervision.started(now=1) == [MarkStopping(BORED), Signal(SIGTERM), Signal(SIGCONT)]
    assert supervision.tick(now=6) == [EndAll()]


def test_a_stop_after_the_exit_changes_nothing(running: Supervision) -> None:
    running.exited(ZERO, now=1)

    assert running.stop(BORED, now=2) == []
    running.emptied(now=2)
    assert running.drained() == [Finish(Reason.EXITED, None, ZERO)]


def test_who_holds_the_pipe_after_the_sweep_cannot_keep_the_session(running: Supervision) -> None:
    running.exited(ZERO, now=1)
    running.emptied(now=2)

    assert running.tick(now=4.9) == []
    assert running.tick(now=5) == [Finish(Reason.EXITED, None, ZERO)]


def test_a_signal_is_told_as_one(running: Supervision) -> None:
    running.exited(Exit(None, "KILL"), now=1)
    running.emptied(now=1)

    assert running.drained() == [Finish(Reason.SIGNAL, None, Exit(None, "KILL"))]


def test_a_session_that_runs_too_long_is_stopped(running: Supervision) -> None:
    actions = running.tick(now=60)

    assert actions == [MarkStopping(Stop(Reason.TIMEOUT, "its time of 60 s was up")), Signal(SIGTERM), Signal(SIGCONT)]


def test_a_flood_is_killed_without_grace(running: Supervision) -> None:
    assert running.printed(1000, now=1) == []
    marked, killed = running.printed(1001, now=1)

    assert marked == MarkStopping(Stop(Reason.OUTPUT_LIMIT, "printed more than 1000 bytes"))
    assert killed == EndAll()
    assert running.printed(5000, now=2) == []


def test_a_keeper_that_does_not_sweep_is_replaced(running: Supervision) -> None:
    running.exited(ZERO, now=1)

    assert running.tick(now=1 + SWEEP_LIMIT_SECONDS) == [ReplaceKeeper()]


def test_a_keeper_that_does_not_kill_is_replaced(running: Supervision) -> None:
    running.stop(BORED, now=0)
    assert running.tick(now=5) == [EndAll()]

    assert running.tick(now=5 + SWEEP_LIMIT_SECONDS) == [ReplaceKeeper()]


def test_hurrying_turns_a_stop_into_a_kill_once(running: Supervision) -> None:
    assert running.hurry(now=1) == []
    running.stop(BORED, now=1)

    assert running.hurry(now=2) == [EndAll()]
    assert running.hurry(now=3) == []


def test_a_lost_keeper_ends_the_session_and_nobody_knows_the_exit(running: Supervision) -> None:
    (finish,) = running.keeper_lost()
    assert isinstance(finish, Finish)
    assert (finish.reason, finish.exit) == (Reason.KEEPER_LOST, Exit(None, None))
    assert "lease" in str(finish.error)
    assert running.keeper_lost() == []


def test_a_keeper_lost_while_stopping_leaves_the_reason_of_the_stop(running: Supervision) -> None:
    running.stop(BORED, now=1)

    assert running.keeper_lost() == [Finish(Reason.REQUESTED, "bored", Exit(None, None))]


def test_an_exit_that_was_seen_survives_the_keeper(running: Supervision) -> None:
    running.exited(Exit(3, None), now=1)

    assert running.keeper_lost() == [Finish(Reason.EXIT_CODE, None, Exit(3, None))]


def test_an_exit_that_is_told_before_the_start_loses_no_output(supervision: Supervision) -> None:
    assert supervision.exited(ZERO, now=0) == [EndAll()]
    assert supervision.emptied(now=0) == []
    assert supervision.tick(now=100) == []
    assert supervision.started(now=100) == []
    assert supervision.drained() == [Finish(Reason.EXITED, None, ZERO)]


def test_what_could_not_be_spawned_ends_at_once(supervision: Supervision) -> None:
    assert supervision.spawn_failed("no such file") == [
        Finish(Reason.SPAWN_FAILED, None, Exit(None, None), "no such file")
    ]


def test_neither_output_nor_input_for_too_long_is_a_stop() -> None:
    supervision = Supervision(
        Rules(grace_seconds=5, run_seconds=60, drain_seconds=3, max_output_bytes=None, idle_seconds=10)
    )
    supervision.started(now=0)

    assert supervision.tick(now=9.9) == []
    supervision.printed(5, now=9.9)
    assert supervision.tick(now=19) == []
    supervision.stirred(now=19)
    assert supervision.tick(now=28.9) == []
    assert supervision.tick(now=29)[0] == MarkStopping(Stop(Reason.IDLE_TIMEOUT, "was idle for 10 s"))


def test_more_time_counts_from_now(running: Supervision) -> None:
    running.extend(100, now=50)

    assert running.tick(now=60) == []
    assert running.tick(now=149.9) == []
    assert running.tick(now=150)[0] == MarkStopping(Stop(Reason.TIMEOUT, "its time of 100 s was up"))


def test_more_time_before_the_start_counts_from_the_start(supervision: Supervision) -> None:
    supervision.extend(100, now=0)
    supervision.started(now=10)

    assert supervision.tick(now=109.9) == []
    assert supervision.tick(now=110) != []


def test_more_time_does_not_undo_a_stop(running: Supervision) -> None:
    running.stop(BORED, now=5)
    running.extend(100, now=6)

    assert running.tick(now=10) == [EndAll()]


def test_what_asks_it_to_leave_is_the_programs_choice() -> None:
    rules = Rules(grace_seconds=5, run_seconds=None, drain_seconds=3, max_output_bytes=None, stop_signals=(2, 1))
    supervision = Supervision(rules)
    supervision.started(now=0)

    assert supervision.stop(BORED, now=1) == [MarkStopping(BORED), Signal(2), Signal(1), Signal(SIGCONT)]


def test_what_multiplies_gets_no_grace(running: Supervision) -> None:
    bomb = Stop(Reason.PROCESS_LIMIT, "had 300 processes")

    assert running.exceeded(bomb, now=1) == [MarkStopping(bomb), EndAll()]
    assert running.exceeded(bomb, now=2) == []
    running.exited(Exit(None, "KILL"), now=2)
    running.emptied(now=2)
    assert running.drained() == [Finish(Reason.PROCESS_LIMIT, bomb.detail, Exit(None, "KILL"))]


def test_what_multiplies_while_it_is_asked_to_leave_is_killed_and_its_reason_stands(running: Supervision) -> None:
    running.stop(BORED, now=1)

    assert running.exceeded(Stop(Reason.PROCESS_LIMIT), now=2) == [EndAll()]
    running.exited(Exit(None, "KILL"), now=2)
    running.emptied(now=2)
    assert running.drained() == [Finish(Reason.REQUESTED, "bored", Exit(None, "KILL"))]


SHUTDOWN = Stop(Reason.WORKER_SHUTDOWN, "the worker was asked to stop")
TERMED = Exit(None, "TERM")


def test_one_that_died_of_a_strangers_sigterm_waits_for_the_workers_own(running: Supervision) -> None:
    running.exited(TERMED, now=10)
    running.emptied(now=10)
    assert running.drained() == []
    assert running.stop(BORED, now=10.2) == []
    assert running.stop(SHUTDOWN, now=10.5) == [
        MarkStopping(SHUTDOWN),
        Finish(Reason.WORKER_SHUTDOWN, SHUTDOWN.detail, TERMED),
    ]


def test_the_workers_own_may_come_before_its_output_was_read(running: Supervision) -> None:
    running.exited(TERMED, now=10)
    assert running.stop(SHUTDOWN, now=10) == [MarkStopping(SHUTDOWN)]
    running.emptied(now=10)
    assert running.drained() == [Finish(Reason.WORKER_SHUTDOWN, SHUTDOWN.detail, TERMED)]


def test_without_the_workers_own_it_was_a_signal(running: Supervision) -> None:
    running.exited(TERMED, now=10)
    running.emptied(now=10)
    running.drained()
    assert running.tick(now=10.9) == []
    assert running.tick(now=11) == [Finish(Reason.SIGNAL, None, TERMED)]
    assert running.stop(SHUTDOWN, now=11) == []


@pytest.mark.parametrize("how", [Exit(0, None), Exit(143, None), Exit(None, "KILL")])
def test_other_deaths_are_told_at_once(running: Supervision, how: Exit) -> None:
    running.exited(how, now=10)
    assert running.stop(SHUTDOWN, now=10) == []
    running.emptied(now=10)
    assert [type(action) for action in running.drained()] == [Finish]


def test_a_sigterm_a_client_sent_is_told_at_once(running: Supervision) -> None:
    running.told(SIGTERM)
    running.exited(TERMED, now=10)
    running.emptied(now=10)
    assert running.drained() == [Finish(Reason.SIGNAL, None, TERMED)]


# Programs that are asked to leave in their own words.


@pytest.fixture
def polite() -> Supervision:
    rules = Rules(
        grace_seconds=5, run_seconds=60, drain_seconds=3, max_output_bytes=1000, ask_seconds=2, hands_over=True
    )
    supervision = Supervision(rules)
    supervision.started(now=0)
    return supervision


def test_it_is_asked_then_sent_signals_then_killed(polite: Supervision) -> None:
    assert polite.stop(BORED, now=1) == [MarkStopping(BORED), AskToLeave()]
    assert polite.tick(now=2.9) == []
    assert polite.tick(now=3) == [Signal(SIGTERM), Signal(SIGCONT)]
    assert polite.tick(now=7.9) == []
    assert polite.tick(now=8) == [EndAll()]


def test_in_a_hurry_nobody_is_asked(polite: Supervision) -> None:
    polite.stop(BORED, now=1)
    assert polite.hurry(now=1.5) == [EndAll()]


def test_a_limit_asks_nobody(polite: Supervision) -> None:
    polite.stop(BORED, now=1)
    assert polite.exceeded(Stop(Reason.OUTPUT_LIMIT), now=1.5) == [EndAll()]


def test_what_is_handed_over_is_not_said_to_be_stopped(polite: Supervision) -> None:
    assert polite.stop(Stop(Reason.WORKER_SHUTDOWN), now=1) == [AskToLeave()]


@pytest.mark.parametrize(("code", "reason"), [(0, Reason.EXITED), (1, Reason.EXITED), (2, Reason.EXIT_CODE)])
def test_after_the_end_of_its_input_other_codes_may_be_fine(polite: Supervision, code: int, reason: Reason) -> None:
    polite.input_ended({1})
    polite.exited(Exit(code, None), now=1)
    polite.drained()
    assert polite.emptied(now=1) == [Finish(reason, None, Exit(code, None))]


def test_a_code_that_stands_for_a_strangers_sigterm_is_waited_with(polite: Supervision) -> None:
    polite.exited(Exit(128 + SIGTERM, None), now=1)
    polite.drained()
    assert polite.emptied(now=1) == []
    assert polite.stop(Stop(Reason.WORKER_SHUTDOWN), now=1.5)[-1] == Finish(
        Reason.WORKER_SHUTDOWN, None, Exit(128 + SIGTERM, None)
    )
