"""Input: each exactly once, in order, whoever sends at the same time; and what becomes of it when nobody can take it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.checks import eventually

if TYPE_CHECKING:
    from tests.client import Answer, Client

CLIENTS = 4
EACH = 125


@pytest.mark.case(32)
def test_five_hundred_inputs_of_four_clients_come_back_once_and_in_order(ada: Client) -> None:
    session_id = ada.create("ready", program="cat")
    answers: list[list[Answer]] = [[] for _ in range(CLIENTS)]

    def send(number: int) -> None:
        for count in range(EACH):
            answers[number].append(ada.input(session_id, f"client {number} line {count}"))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    eventually(lambda: ada.output(session_id).count(b"\n") >= CLIENTS * EACH + 1, 20, every=0.1)
    ada.delete(session_id)
    lines = ada.output(session_id).decode().splitlines()

    assert all(answer.status == 200 for sent in answers for answer in sent)
    assert lines[0] == "ready"
    assert len(lines) == len(set(lines)) == CLIENTS * EACH + 1
    for number in range(CLIENTS):
        own = [line for line in lines if line.startswith(f"client {number} ")]
        assert own == [f"client {number} line {count}" for count in range(EACH)]
    numbers = sorted(answer.json()["input_seq"] for sent in answers for answer in sent)
    assert numbers == list(range(numbers[0], numbers[0] + CLIENTS * EACH))


def test_what_was_written_is_told_to_followers(ada: Client) -> None:
    session_id = ada.create("ready", program="cat")
    accepted = ada.input(session_id, "hällo").json()
    with ada.follow(session_id) as stream:
        written = stream.until("input")[-1]
    ada.delete(session_id)

    assert accepted["message"] == "Input sent successfully"
    assert accepted["input_length"] == len("hällo".encode())
    assert (written.data["input_id"], written.data["input_seq"]) == (accepted["input_id"], accepted["input_seq"])


def test_raw_input_gets_no_newline_and_other_input_at_most_one(ada: Client) -> None:
    session_id = ada.create("head -c 9 | od -An -c | tr -d ' \\n'")
    ada.input(session_id, "ab", raw=True)
    ada.input(session_id, "cd", newline=False)
    ada.input(session_id, "ef")
    ada.input(session_id, "g\n")
    ada.events(session_id)

    assert ada.output(session_id) == b"abcdef\\ng\\n"


@pytest.mark.case(32)
def test_input_that_comes_before_the_start_is_delivered_at_the_start(ada: Client) -> None:
    session_id = ada.create("read line; echo got $line")
    assert ada.input(session_id, "early").status == 200
    ada.events(session_id)

    assert ada.output(session_id) == b"got early\n"


@pytest.mark.case(33)
def test_a_program_that_does_not_read_hinders_neither_input_nor_its_end(ada: Client) -> None:
    session_id = ada.create("sleep 60")
    sent = [ada.input(session_id, "x" * 60_000).status for _ in range(40)]
    ended = ada.delete(session_id)

    assert set(sent) == {200}
    assert ended.status == 200


@pytest.mark.case(32)
def test_an_ended_session_takes_no_input(ada: Client) -> None:
    session_id = ada.create("true")
    ada.events(session_id)
    answer = ada.input(session_id, "too late")

    assert (answer.status, answer.json()["error_code"]) == (409, "SESSION_ENDED")


def test_an_ending_session_takes_no_input(ada: Client) -> None:
    session_id = ada.create("trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    with ada.follow(session_id) as stream:
        stream.until("output")
    asked = ada.delete(session_id, "?wait=0")
    answer = ada.input(session_id, "too late")
    ada.events(session_id)

    assert asked.status == 202
    assert (answer.status, answer.json()["error_code"]) == (409, "SESSION_ENDING")
