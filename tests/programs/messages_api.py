"""The Messages API of a model on loopback, as far as Claude Code speaks it: a real HTTP server that answers by a script.

What is answered is chosen in model_script.py. Everything asked is kept, so that a test sees what a model would: which turns a
conversation has, what its tools said. It is also a proxy that lets nothing through: a program whose HTTPS_PROXY it is reaches no
other network, and what it wanted there is kept too (`strays`).

By hand, on port 8399: python -m tests.programs.messages_api 8399
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self

from jelmore.embedded.server import free_port
from tests.programs import model_answers as answers
from tests.programs.model_script import Heard, choose, heard

if TYPE_CHECKING:
    from types import TracebackType

    from tests.programs.model_script import Reply

DUMMY_KEY: Final = "sk-ant-dummy-key-of-the-tests-0123456789"
"""The one it takes. It opens nothing anywhere."""
PING_SECONDS: Final = 0.2
ERRORS: Final = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass(slots=True)
class Asked:
    """One question to the model. `was_left`: whoever asked went before the answer was whole."""

    conversation: str
    body: dict[str, Any]
    heard: Heard
    reply: Reply
    was_left: bool = False

    @property
    def prompt(self) -> str:
        """The newest of what the user said."""
        return self.heard.prompts[-1] if self.heard.prompts else ""


@dataclass
class MessagesApi:
    """The server. Between `with` and its end it listens."""

    port: int = field(default_factory=free_port)
    key: str = DUMMY_KEY
    asked: list[Asked] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._times: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, prompt: str) -> list[Asked]:
        """Return what was asked while this was the newest of what the user said."""
        return [each for each in list(self.asked) if each.prompt == prompt]

    def __enter__(self) -> Self:
        api = self

        class Handler(_Handler):
            pass

        Handler.api = api
        self._server = _Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server is not None
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def note(self, body: dict[str, Any]) -> Asked:
        """Keep a question, with the answer it gets."""
        conversation, told = _conversation(body), heard(body["messages"])
        with self._lock:
            same = (conversation, *told.prompts, *told.results)
            asked = Asked(conversation, body, told, choose(told, self._times[same]))
            self._times[same] += 1
            self.asked.append(asked)
        return asked

    def pause(self, seconds: float) -> bool:
        """Wait; return whether the server is still wanted."""
        return not self._released.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of who left: it is noted where it matters."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: MessagesApi

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
        path = self.path.partition("?")[0]
        if self.headers.get("x-api-key") != self.api.key:
            self._fail(401)
        elif path == "/v1/messages":
            self._answer(self.api.note(body))
        elif path == "/v1/messages/count_tokens":
            self._send(200, {"input_tokens": answers.tokens(body)})
        else:
            self._stray()

    def do_HEAD(self) -> None:  # older versions look whether there is something
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self._stray()

    do_CONNECT = do_PUT = do_DELETE = do_GET  # noqa: N815  (names that http.server looks for)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _stray(self) -> None:
        self.api.strays.append(f"{self.command} {self.path}")
        self._fail(404)

    def _fail(self, status: int) -> None:
        kind = ERRORS.get(status, "overloaded_error" if status == 529 else "api_error")
        self._send(status, {"type": "error", "error": {"type": kind, "message": f"the script says {status}"}})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _answer(self, asked: Asked) -> None:
        try:
            if asked.reply.status != 200:
                self._fail(asked.reply.status)
            elif asked.body.get("stream"):
                self._stream(asked)
            else:
                self._send(200, answers.message(asked.body, asked.reply))
        except OSError:
            asked.was_left = True

    def _stream(self, asked: Asked) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event, pause in answers.events(asked.body, asked.reply):
            self._event(event)
            if pause and not self.api.pause(pause):
                return
        if asked.reply.ending == "cut":
            self.close_connection = True  # without the chunk that would end it
            return
        while asked.reply.ending == "hang":
            self._event({"type": "ping"})
            if not self.api.pause(PING_SECONDS):
                return
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, event: dict[str, Any]) -> None:
        raw = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(raw), raw))
        self.wfile.flush()


def _conversation(body: dict[str, Any]) -> str:
    """Return which conversation a question is of, as the program tells it."""
    told = str((body.get("metadata") or {}).get("user_id", ""))
    try:
        return str(json.loads(told)["session_id"])
    except (ValueError, KeyError, TypeError):
        return told.rpartition("session_")[2]


if __name__ == "__main__":
    with MessagesApi(int(sys.argv[1])) as by_hand:
        by_hand.pause(1e6)
