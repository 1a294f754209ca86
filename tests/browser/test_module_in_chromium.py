"""The module where it is meant to run: in Chromium, on a page with a strict policy, against a running installation."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.checks import eventually
from tests.programs.shell import ANSWERS, lines, steady
from tests.service import ADA, ADA_READS, BOB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.conftest import Front, Page
    from tests.service import Service

COUNT: Final = 120
QUICK: Final = {"pauseMs": 50, "longestPauseMs": 1000, "resumes": 60, "retries": 20, "quietMs": 150}
TRANSPORTS: Final = ("fetch", "eventsource")

CLIENT: Final = "const client = new jelmore.JelmoreClient('', args[0], { limits: args[1] });"
FOLLOW: Final = (
    CLIENT
    + """
const [ , , sessionId, transport] = args;
const seen = { output: '', ids: [], statuses: [], errors: [], states: [], calls: [] };
const stream = client.streamOutput(sessionId,
  (content) => { seen.output += content; seen.calls.push('output'); },
  (status) => { seen.statuses.push(status); seen.calls.push('status'); },
  (error) => { seen.errors.push(`${error.status} ${error.errorCode} ${error.message}`); seen.calls.push('error'); },
  { transport });
const note = (event) => { if (event.lastEventId) seen.ids.push(Number(event.lastEventId)); };
for (const kind of jelmore.EVENTS) stream.addEventListener(kind, note);
stream.addEventListener('statechange', (event) => seen.states.push(event.detail));
window.stream = stream;
await new Promise((resolve) => stream.addEventListener('close', resolve));
return { ...seen, readyState: stream.readyState, lastId: stream.lastId };
"""
)


@contextmanager
def cut_at_random(front: Front) -> Iterator[list[float]]:
    """Reset every connection after a random while, again and again."""
    chance, over, cuts = random.Random(11), threading.Event(), []

    def cut() -> None:
        while not over.wait(pause := chance.uniform(0.1, 0.5)):
            front.reset()
            cuts.append(pause)

    thread = threading.Thread(target=cut, daemon=True)
    thread.start()
    try:
        yield cuts
    finally:
        over.set()
        thread.join()


def check(service: Service, seen: dict[str, Any], session_id: str, expected: bytes) -> None:
    """Check that everything came once and in order, and that nothing was said to be wrong."""
    assert seen["errors"] == []
    assert seen["output"].encode() == expected
    assert seen["ids"] == list(range(1, service.ada.get(session_id)["last_seq"] + 1))
    assert seen["lastId"] == seen["ids"][-1]
    assert (seen["readyState"], seen["states"][-1]) == (2, "disconnected")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_callbacks_are_called_in_the_order_of_what_happened(service: Service, page: Page, transport: str) -> None:
    session_id = service.ada.create("echo one; sleep 0.5; echo two")
    seen = page.run(FOLLOW, ADA, QUICK, session_id, transport)
    entries = service.ada.events(session_id)[1:]

    check(service, seen, session_id, b"one\ntwo\n")
    assert seen["calls"] == [entry.event for entry in entries if entry.event in ("output", "status")]
    assert seen["statuses"] == [entry.data["status"] for entry in entries if entry.event == "status"]
    assert seen["statuses"][-1] == "completed"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_connection_has_the_four_states(service: Service, page: Page, transport: str) -> None:
    session_id = service.ada.create("sleep 1; echo one; sleep 1; echo two; sleep 1")
    seen = page.run(FOLLOW, ADA, QUICK, session_id, transport)

    assert seen["states"] == [
        "connected",
        "waiting",
        "streaming",
        "waiting",
        "streaming",
        "waiting",
        "disconnected",
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_stream_that_is_cut_at_random_comes_once_and_whole(
    service: Service, page: Page, front: Front, transport: str
) -> None:
    session_id = service.ada.create(steady(COUNT, 0.03))
    with cut_at_random(front) as cuts:
        seen = page.run(FOLLOW, ADA, QUICK, session_id, transport)

    check(service, seen, session_id, lines(COUNT))
    assert len(cuts) > 3
    assert seen["states"].count("disconnected") > 1
    # EventSource has never come again by itself, with a ticket that is used up.
    opened = [url for url in page.urls() if "ticket=" in url]
    assert (len(opened) > 3) == (transport == "eventsource")
    assert len(set(opened)) == len(opened)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_killed_web_process_costs_a_page_nothing(service: Service, page: Page, transport: str) -> None:
    session_id = service.ada.create(steady(COUNT, 0.03))
    # In the main thread: processes die with the thread that starts them.
    start = f"window.seen = (async () => {{ {FOLLOW} }})(); return null;"
    page.run(start, ADA, QUICK, session_id, transport)
    eventually(lambda: service.ada.get(session_id)["output_bytes"] > 80)
    service.web.kill()
    service.web.start()
    service.wait_ready()

    check(service, page.run("return window.seen;"), session_id, lines(COUNT))


def test_no_key_is_in_a_url(service: Service, page: Page) -> None:
    session_id = service.ada.create("echo here")
    for transport in TRANSPORTS:
        page.run(FOLLOW, ADA, QUICK, session_id, transport)
    urls = page.urls()

    assert any("ticket=" in url for url in urls)
    assert [url for url in urls if ADA in url] == []
    assert ADA not in service.web.said()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_stream_begins_where_it_is_wanted_and_may_have_nothing_left(
    service: Service, page: Page, transport: str
) -> None:
    session_id = service.ada.create(steady(10, 0.02))
    last = service.ada.events(session_id)[-1].id
    script = (
        CLIENT
        + """
    const [ , , sessionId, options] = args;
    const ids = [];
    for await (const event of client.stream(sessionId, options)) ids.push(event.id);
    return ids;
    """
    )
    everything = page.run(script, ADA, QUICK, session_id, {"transport": transport})
    assert everything == [None, *range(1, (last or 0) + 1)]
    rest = page.run(script, ADA, QUICK, session_id, {"transport": transport, "after": 2})
    assert rest == [None, *everything[3:]]
    assert page.run(script, ADA, QUICK, session_id, {"transport": transport, "after": last}) == []


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("key", "refusal"), [("wrong", "401 INVALID_API_KEY"), (BOB, "404 SESSION_NOT_FOUND")])
def test_a_refusal_is_told_once_and_ends_it(
    service: Service, page: Page, transport: str, key: str, refusal: str
) -> None:
    session_id = service.ada.create("true")
    seen = page.run(FOLLOW, key, QUICK, session_id, transport)

    assert len(seen["errors"]) == 1
    assert seen["errors"][0].startswith(refusal)
    assert seen["readyState"] == 2


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_stream_that_is_closed_says_nothing_more(service: Service, page: Page, transport: str) -> None:
    session_id = service.ada.create(steady(100, 0.05))
    script = FOLLOW.replace(
        "await new Promise",
        "setTimeout(() => { stream.close(); seen.calls.length = 0; }, 1000); await new Promise",
    )
    seen = page.run(script + "", ADA, QUICK, session_id, transport)
    later = page.run("await new Promise((resolve) => setTimeout(resolve, 500)); return window.stream.readyState;")
    service.ada.delete(session_id)

    assert (seen["calls"], seen["errors"], later) == ([], [], 2)


def test_output_that_is_no_text_comes_exactly(service: Service, page: Page) -> None:
    session_id = service.ada.create(r"printf 'a\377\000\303'; sleep 0.2; printf '\251\200'")
    script = (
        CLIENT
        + """
    const [ , , sessionId] = args;
    const found = [];
    for await (const event of client.stream(sessionId, { encoding: 'base64' })) {
      if (event.event === 'output') found.push(...jelmore.bytes(event));
    }
    return [found, [...await client.outputBytes(sessionId)], await client.outputText(sessionId)];
    """
    )
    streamed, paged, text = page.run(script, ADA, QUICK, session_id)

    assert bytes(streamed) == bytes(paged) == b"a\xff\x00\xc3\xa9\x80"
    assert text == "a\ufffd\x00é\ufffd"


def test_megabytes_are_read_a_page_at_a_time(service: Service, page: Page) -> None:
    session_id = service.ada.create("seq -f %015.0f 1 100000")
    service.ada.events(session_id)
    script = CLIENT + "return (await client.outputText(args[2], { offset: args[3] })).length;"

    assert page.run(script, ADA, QUICK, session_id, 0) == 1_600_000
    assert page.run(script, ADA, QUICK, session_id, 1_600_000) == 0


def test_a_session_is_driven_from_its_start_to_its_end(service: Service, page: Page) -> None:
    script = (
        CLIENT
        + """
    const session = await client.createSession(args[2], 'a-user', { metadata: { from: 'a page' } });
    const id = session.session_id;
    const ready = await client.wait(id, { text: 'ready\\n' });
    const receipt = await client.sendInput(id, 'one');
    const again = await client.wait(id, { text: 'got one\\n' }, { fromOffset: ready.next_offset });
    await client.wait(id, { status: 'waiting_input' });
    const listed = (await client.listSessions({ status: ['waiting_input'], user_id: 'a-user' })).map((one) => one.session_id);
    const quiet = await client.wait(id, { text: 'never' }, { timeoutSeconds: 1 });
    await client.extend(id, 5);
    await client.sendInput(id, 'two\\n', { raw: true });
    const ended = await client.eof(id);
    await client.wait(id, { exit: true });
    const shown = await client.getSession(id);
    return [shown.status, shown.metadata.from, ready.matched, again.matched, quiet.matched, receipt.input_seq, ended.state,
      listed.includes(id), await client.outputText(id), (await client.output(id, { offset: 6, limit: 3 })).output,
      (await client.inputs(id)).map((row) => row.kind), (await client.terminate(id)).message, (await client.health()).service];
    """
    )
    assert page.run(script, ADA, QUICK, ANSWERS) == [
        "completed",
        "a page",
        True,
        True,
        False,
        1,
        "written",
        True,
        "ready\ngot one\ngot two\n",
        "got",
        ["input", "extend", "input", "eof"],
        "Session terminated successfully",
        "jelmore-integrated-api",
    ]


def test_a_terminal_is_resized_interrupted_and_signalled(service: Service, page: Page) -> None:
    script = (
        CLIENT
        + """
    const { session_id: id } = await client.createSession('trap "echo INT" INT; echo ready; while :; do sleep 0.1; done', null,
      { terminal: { rows: 20, cols: 70 } });
    await client.wait(id, { text: 'ready' });
    await client.resize(id, 30, 90);
    await client.interrupt(id);
    await client.wait(id, { text: 'INT' });
    const { terminal } = await client.getSession(id);
    await client.signal(id, 'KILL');
    await client.wait(id, { exit: true });
    return [terminal.rows, terminal.cols, (await client.getSession(id)).exit_signal];
    """
    )
    assert page.run(script, ADA, QUICK) == [30, 90, "KILL"]


def test_refusals_are_errors_that_say_all(service: Service, page: Page) -> None:
    script = (
        CLIENT
        + """
    const said = async (promise) => { try { await promise; return null; } catch (error) {
      const { status, errorCode, requestId, errors } = error;
      return [error instanceof jelmore.JelmoreError, status, errorCode, Boolean(requestId), errors.length]; } };
    return [
      await said(client.getSession('01890000-0000-7000-8000-000000000000')),
      await said(client.getSession('../keys')),
      await said(client.createSession('')),
      await said(new jelmore.JelmoreClient('', args[2]).createSession('true')),
    ];
    """
    )
    assert page.run(script, ADA, QUICK, ADA_READS) == [
        [True, 404, "SESSION_NOT_FOUND", True, 0],
        [True, 404, "NOT_FOUND", True, 0],
        [True, 422, "VALIDATION_FAILED", True, 1],
        [True, 403, "INSUFFICIENT_PERMISSIONS", True, 0],
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_page_of_another_origin_may_ask_as_well(service: Service, page: Page, front: Front, transport: str) -> None:
    page.driver.get(f"{front.origin}/page/of/strangers")
    script = """
    const client = new jelmore.JelmoreClient(args[0], args[1], { limits: args[2] });
    const session = await client.createSession('echo from elsewhere');
    let output = '';
    for await (const event of client.stream(session.session_id, { transport: args[3] })) output += event.data.content ?? '';
    const refused = await client.getSession('nothing').catch((error) => error);
    return [output, refused.status, Boolean(refused.requestId), (await client.terminate(session.session_id)).message];
    """
    there = f"http://127.0.0.1:{service.port}"

    assert page.run(script, there, ADA, QUICK, transport) == [
        "from elsewhere\n",
        404,
        True,
        "Session terminated successfully",
    ]
