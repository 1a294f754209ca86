"""The module's WebSocket in Chromium: what is typed arrives once and what is printed comes once, also over broken connections."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.checks import eventually
from tests.programs.shell import ANSWERS, lines, steady
from tests.service import ADA, ADA_READS, ADA_WRITES, BOB

if TYPE_CHECKING:
    from tests.browser.conftest import Front, Page
    from tests.service import Service

QUICK: Final = {"pauseMs": 50, "longestPauseMs": 1000, "resumes": 60, "retries": 20, "quietMs": 150}
OPEN: Final = """
const client = new jelmore.JelmoreClient('', args[0], { limits: args[1] });
const [ , , sessionId, options] = args;
const seen = { output: '', seqs: [], states: [], errors: [], events: [] };
const socket = client.connectWebSocket(sessionId, (message) => {
  seen.events.push(message.event);
  if (message.seq !== undefined) seen.seqs.push(message.seq);
  if (message.event === 'output') seen.output += message.content;
}, options ?? {});
socket.onstatechange = (event) => seen.states.push(event.detail);
socket.onerror = (event) => seen.errors.push(`${event.error.status} ${event.error.errorCode}`);
const closed = new Promise((resolve) => { socket.onclose = (event) => resolve(event.code); });
const until = async (enough) => {
  for (const end = performance.now() + 30000; !enough(); await new Promise((resolve) => setTimeout(resolve, 20))) {
    if (performance.now() > end) throw new Error(`not within 30 s: ${enough} ${JSON.stringify(seen)}`);
  }
};
"""
TO_ITS_END: Final = f"{OPEN} const code = await closed; return {{ ...seen, code, readyState: socket.readyState }};"


def whole(service: Service, seen: dict[str, Any], session_id: str) -> bool:
    """Whether every entry came once and in order."""
    return bool(seen["seqs"] == list(range(1, service.ada.get(session_id)["last_seq"] + 1)))


def test_a_socket_brings_what_is_printed_and_ends_with_the_session(service: Service, page: Page) -> None:
    session_id = service.ada.create("echo one; sleep 0.5; echo two")
    seen = page.run(TO_ITS_END, ADA, QUICK, session_id)

    assert (seen["output"], seen["errors"], seen["code"], seen["readyState"]) == ("one\ntwo\n", [], 1000, 3)
    assert (seen["events"][0], seen["events"][-1]) == ("session_info", "terminated")
    assert whole(service, seen, session_id)
    assert seen["states"][0] == "connected"
    assert "streaming" in seen["states"]
    assert seen["states"][-1] == "disconnected"


def test_a_conversation(service: Service, page: Page) -> None:
    session_id = service.ada.create(ANSWERS)
    talk = """
    await until(() => seen.output === 'ready\\n');
    const receipt = await socket.sendInput('one');
    await until(() => seen.output.endsWith('got one\\n'));
    const status = await socket.getStatus();
    const pong = await socket.ping();
    const subscribed = await socket.subscribe(['output']);
    const wrong = await socket.request({ type: 'no such type' }).catch((error) => error.errorCode);
    const long = await socket.sendInput('x'.repeat(70000)).catch((error) => error.errorCode);
    await socket.eof();
    return [receipt.event, receipt.input_seq, status.event, status.output_size <= 14, pong.event, subscribed.events,
      wrong, long, await closed];
    """
    said = page.run(OPEN + talk, ADA, QUICK, session_id)

    assert said[:6] == ["input_received", 1, "status_response", True, "pong", ["output"]]
    assert said[6:] == ["VALIDATION_FAILED", "BODY_TOO_LARGE", 1000]


def test_a_terminal_is_driven_over_a_socket(service: Service, page: Page) -> None:
    command = 'trap "echo INT" INT; trap "stty size" WINCH; echo ready; while :; do sleep 0.1; done'
    session_id = service.ada.create(command, terminal={"rows": 20, "cols": 70})
    talk = """
    await until(() => seen.output.includes('ready'));
    await socket.resize(30, 90);
    await until(() => seen.output.includes('30 90'));
    await socket.interrupt();
    await until(() => seen.output.includes('INT'));
    await socket.signal('KILL');
    return closed;
    """
    assert page.run(OPEN + talk, ADA, QUICK, session_id) == 1000
    assert service.ada.get(session_id)["exit_signal"] == "KILL"


def test_a_session_is_terminated_over_a_socket(service: Service, page: Page) -> None:
    session_id = service.ada.create("echo ready; sleep 1000")
    talk = "await until(() => seen.output); await socket.terminate('enough'); return closed;"

    assert page.run(OPEN + talk, ADA, QUICK, session_id) == 1000
    assert service.ada.get(session_id)["reason_detail"] == "enough"


def test_what_is_typed_and_printed_over_cut_connections_comes_once(service: Service, page: Page, front: Front) -> None:
    session_id = service.ada.create("cat")
    talk = """
    const refused = [];
    for (let number = 1; number <= 150; number += 1) {
      socket.sendInput(`line ${number}`).catch((error) => refused.push(`${number}: ${error}`));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await socket.eof().catch(() => {}); // cut off, its answer may be lost: the end says it all the same
    return { ...seen, refused, code: await closed };
    """
    chance, over, cuts = random.Random(5), threading.Event(), []

    def cut() -> None:
        while not over.wait(pause := chance.uniform(0.15, 0.6)):
            front.reset()
            cuts.append(pause)

    thread = threading.Thread(target=cut, daemon=True)
    thread.start()
    seen = page.run(OPEN + talk, ADA, QUICK, session_id)
    over.set()
    thread.join()

    # What was done before the last cut, whose answer then was lost, may be told of by the end alone.
    assert all(told.endswith("before this was answered.") for told in seen["refused"]), seen["refused"]
    assert service.ada.output(session_id) == lines(150), seen["refused"]
    assert whole(service, seen, session_id)
    assert seen["output"].encode() == lines(150)
    assert (seen["errors"], seen["code"], len(cuts) > 3) == ([], 1000, True)


def test_a_killed_web_process_costs_a_socket_nothing(service: Service, page: Page) -> None:
    session_id = service.ada.create(steady(120, 0.03))
    page.run(f"window.seen = (async () => {{ {TO_ITS_END} }})(); return null;", ADA, QUICK, session_id)
    eventually(lambda: service.ada.get(session_id)["output_bytes"] > 80)
    service.web.kill()
    service.web.start()
    service.wait_ready()
    seen = page.run("return window.seen;")

    assert (seen["output"].encode(), seen["errors"], seen["code"]) == (lines(120), [], 1000)
    assert whole(service, seen, session_id)


def test_a_socket_begins_where_it_is_wanted(service: Service, page: Page) -> None:
    session_id = service.ada.create(steady(10, 0.02))
    last = service.ada.events(session_id)[-1].id
    rest = page.run(TO_ITS_END, ADA, QUICK, session_id, {"after": 2})
    status = page.run(TO_ITS_END, ADA, QUICK, session_id, {"events": ["status"]})
    nothing = page.run(TO_ITS_END, ADA, QUICK, session_id, {"after": last})

    assert rest["seqs"] == list(range(3, (last or 0) + 1))
    assert set(status["events"]) == {"session_info", "status", "terminated"}
    assert (nothing["seqs"], nothing["errors"], nothing["code"]) == ([last], [], 1000)  # the end, once more


@pytest.mark.parametrize(("key", "refusal"), [("wrong", "401 INVALID_API_KEY"), (BOB, "404 SESSION_NOT_FOUND")])
def test_a_refusal_is_told_once_and_ends_it(service: Service, page: Page, key: str, refusal: str) -> None:
    session_id = service.ada.create("true")
    seen = page.run(TO_ITS_END, key, QUICK, session_id)

    assert (seen["errors"], seen["readyState"], seen["seqs"]) == ([refusal], 3, [])


def test_who_may_only_read_or_only_write(service: Service, page: Page) -> None:
    session_id = service.ada.create(ANSWERS)
    reads = "await until(() => seen.output); return socket.sendInput('no').catch((error) => error.errorCode);"
    writes = "const { event } = await socket.sendInput('yes'); socket.close(); return [event, seen.output];"

    assert page.run(OPEN + reads, ADA_READS, QUICK, session_id, {"scopes": ["read"]}) == "INSUFFICIENT_PERMISSIONS"
    assert page.run(OPEN + writes, ADA_WRITES, QUICK, session_id, {"scopes": ["write"]}) == ["input_received", ""]
    eventually(lambda: service.ada.output(session_id) == b"ready\ngot yes\n")
    service.ada.delete(session_id)


def test_a_closed_socket_says_nothing_more(service: Service, page: Page) -> None:
    session_id = service.ada.create(steady(60, 0.05))
    talk = """
    await until(() => seen.output);
    socket.close();
    const events = seen.events.length;
    const late = await socket.sendInput('late').catch((error) => error.message);
    await new Promise((resolve) => setTimeout(resolve, 500));
    return [await closed, seen.events.length - events, seen.errors, late, socket.state];
    """
    said = page.run(OPEN + talk, ADA, QUICK, session_id)
    service.ada.delete(session_id)

    assert said == [1000, 0, [], "The connection is closed.", "disconnected"]
