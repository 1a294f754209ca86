"""GET output.cast."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api


@pytest.mark.parametrize("ended", [True, False])
def test_a_terminals_output_is_a_recording_with_its_sizes(api: Api, holder: Holder, ended: bool) -> None:
    session_id = api.create(terminal={"rows": 24, "cols": 80})
    run = holder.run(session_id)
    run.write(b"\x1b[1mone\x1b[0m\r\n")
    with ThreadPoolExecutor(1) as aside:
        asked = aside.submit(api.post, f"/sessions/{session_id}/resize", {"rows": 50, "cols": 132})
        assert holder.hears()
        (letter,) = run.fetch()
        run.deliver(letter)
        assert asked.result(15).status_code == 200
    run.write(b"two\r\n")
    if ended:
        run.end()
    answer = api.get(f"/sessions/{session_id}/output.cast")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-asciicast")
    head, *events = map(json.loads, answer.text.splitlines())
    assert (head["version"], head["width"], head["height"]) == (2, 80, 24)
    assert [event[1:] for event in events] == [
        ["o", "\x1b[1mone\x1b[0m\r\n"],
        ["r", "132x50"],
        ["o", "two\r\n"],
    ]
    assert sorted(event[0] for event in events) == [event[0] for event in events]


def test_without_a_terminal_there_is_nothing_to_play(api: Api, holder: Holder) -> None:
    session_id = api.create()
    holder.run(session_id).end()
    answer = api.get(f"/sessions/{session_id}/output.cast")

    assert (answer.status_code, answer.json()["error_code"]) == (409, "NO_TERMINAL")
