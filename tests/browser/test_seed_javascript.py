"""The JavaScript examples that users were told first, in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import seed_examples
from tests.client import SESSIONS
from tests.programs.shell import ANSWERS
from tests.service import ADA

if TYPE_CHECKING:
    from tests.browser.conftest import Page
    from tests.service import Service

LISTENING = """
const said = [];
const console = Object.fromEntries(['log', 'error'].map((kind) => [kind, (...words) => said.push([kind, ...words.map(String)])]));
const until = async (enough) => {
  for (const end = performance.now() + 20000; !enough();) {
    if (performance.now() > end) throw new Error(`not within 20 s: ${enough} ${JSON.stringify(said)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
"""
THEIR_OWN = "const { EventSource } = jelmore;"


def ticket(service: Service, session_id: str) -> str:
    answer = service.ada.request("POST", f"{SESSIONS}/{session_id}/tickets", {"scopes": ["read", "write"]})
    assert answer.status == 201, answer.body
    return str(answer.json()["ticket"])


def test_the_event_source(service: Service, page: Page) -> None:
    session_id = service.ada.create("echo one; sleep 0.3; echo two")
    example = seed_examples.event_source_example(session_id, ADA)
    enough = "await until(() => said.some(([, what, status]) => what === 'Status update:' && status === 'completed'));"
    said = page.run(f"{LISTENING}{THEIR_OWN}{example}{enough} eventSource.close(); return said;")

    assert [words[1:] for words in said if words[1] == "New output:"] == [
        ["New output:", "one\n"],
        ["New output:", "two\n"],
    ]
    assert [words for words in said if words[0] == "error"] == []


@pytest.mark.parametrize("client", ["their own", "ours"])
def test_the_client_and_its_use(service: Service, page: Page, client: str) -> None:
    theirs, use = seed_examples.javascript_example(page.front.origin, ADA, "none")
    made = f"{THEIR_OWN}{theirs}" if client == "their own" else "const { JelmoreClient } = jelmore;"
    enough = "await until(() => said.some(([, what, status]) => what === 'Status:' && status === 'failed'));"
    said = page.run(f"{LISTENING}{made}{use}{enough} return said;")

    assert said[0][:2] == ["log", "Session created:"]
    assert "Help: " in "".join(words[2] for words in said if words[1] == "Output:")
    assert [words for words in said if words[0] == "error"] == []


@pytest.mark.parametrize("client", ["their own", "ours"])
def test_the_web_socket(service: Service, page: Page, client: str) -> None:
    session_id = service.ada.create(ANSWERS)
    theirs, _ = seed_examples.javascript_example(page.front.origin, ADA, ticket(service, session_id))
    made = theirs if client == "their own" else "const { JelmoreClient } = jelmore;"
    use = """
    const client = new JelmoreClient('', args[1]);
    const messages = [];
    const printed = () => messages.filter(({ event }) => event === 'output').map(({ content }) => content).join('');
    const ws = client.connectWebSocket(args[0], (message) => messages.push(message));
    await until(() => printed().includes('ready'));
    ws.sendInput('over a socket');
    await until(() => printed().includes('got over a socket'));
    ws.close();
    return [messages[0].event, messages[0].session_id, printed()];
    """
    said = page.run(f"{LISTENING}{made}{use}", session_id, ADA)
    service.ada.delete(session_id)

    assert said == ["session_info", session_id, "ready\ngot over a socket\n"]
