"""A person at a terminal: a session with a pseudo-terminal, its keys by POST, and what would stand on the screen.

The screen is a terminal emulator's (pyte), fed with the bytes of the session's stream as they come.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import pyte

from tests.checks import eventually, how
from tests.client import BROKEN, SESSIONS

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.client import Answer, Client

SHOWN_SECONDS: Final = 15.0
ENTER, ESCAPE, INTERRUPT, SUSPEND = "\r", "\x1b", "\x03", "\x1a"


class Screen(pyte.Screen):
    """A screen that lets pass what xterm has made up since: vim asks for keys with modifiers by `CSI > 4 ; 2 m`."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        if not private:
            super().select_graphic_rendition(*attributes)


class Terminal:
    """A session somebody sits at. Leaving the `with` block ends it."""

    def __init__(self, client: Client, query: str, *, rows: int = 24, cols: int = 80, **fields: Any) -> None:
        self._client = client
        self.screen = Screen(cols, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self.printed = bytearray()
        self.end: dict[str, Any] | None = None
        self.session_id = client.create(query, program="shell", terminal={"rows": rows, "cols": cols}, **fields)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.delete(self.session_id)
        self._thread.join(5)

    def _watch(self) -> None:
        last_id = None
        while self.end is None:
            try:
                last_id = self._watch_once(last_id)
            except BROKEN:
                return

    def _watch_once(self, last_id: int | None) -> int | None:
        with self._client.follow(self.session_id, "?encoding=base64", last_event_id=last_id) as stream:
            for event in stream:
                last_id = event.id or last_id
                if event.event == "output":
                    with self._lock:
                        self.printed += event.content
                        self._stream.feed(event.content)
                elif event.event == "terminated":
                    self.end = event.data
        return last_id

    # Keys.

    def type(self, keys: str) -> Answer:
        """Press these keys, and no others."""
        answer = self._client.input(self.session_id, keys, raw=True)
        assert answer.status == 200, answer.body
        return answer

    def enter(self, line: str) -> Answer:
        """Type a line and press Enter."""
        return self.type(line + ENTER)

    def resize(self, rows: int, cols: int) -> None:
        """Pull the window to another size."""
        with self._lock:
            self.screen.resize(rows, cols)
        self._ask("resize", {"rows": rows, "cols": cols})

    def end_of_file(self) -> None:
        self._ask("eof")

    def interrupt(self) -> None:
        self._ask("interrupt")

    def signal(self, name: str) -> None:
        self._ask("signal", {"signal": name})

    def _ask(self, what: str, body: dict[str, Any] | None = None) -> None:
        answer = self._client.request("POST", f"{SESSIONS}/{self.session_id}/{what}", body or {})
        assert answer.status == 200, (answer.status, answer.body)

    # The screen.

    def lines(self) -> list[str]:
        """Return what stands on the screen, line by line, without what is blank at their ends."""
        with self._lock:
            return [line.rstrip() for line in self.screen.display]

    def text(self) -> str:
        return "\n".join(self.lines())

    def cursor_line(self) -> str:
        """Return the line the cursor stands in."""
        with self._lock:
            return str(self.screen.display[self.screen.cursor.y]).rstrip()

    def waits_for(self, text: str) -> None:
        """Wait until a text stands on the screen."""

        def shown() -> bool:
            assert text in self.text(), f"not on the screen: {text!r}\n{self.text()}\n{bytes(self.printed[-300:])!r}"
            return True

        eventually(shown, SHOWN_SECONDS)

    def waits_for_prompt(self, prompt: str) -> None:
        """Wait until the cursor stands behind a prompt and nothing else."""

        def ready() -> bool:
            assert self.cursor_line() == prompt.rstrip(), f"no prompt:\n{self.text()}"
            return True

        eventually(ready, SHOWN_SECONDS)

    def ended(self) -> tuple[str, str]:
        """Wait for the session's end; return (status, reason)."""
        assert eventually(lambda: self.end is not None, SHOWN_SECONDS), self.text()
        assert self.end is not None
        return how(self.end)
