"""The embedded servers of one `jelmore up`: started together, started again when they crash, stopped last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from core.settings import REDIS_VARIABLES
from jelmore.embedded import EmbeddedServer, Nats, Postgres, ServerFailed, Valkey
from jelmore.restarts import Restarts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jelmore.console import Console
    from jelmore.processes import Identity

KINDS: Final[tuple[type[EmbeddedServer], ...]] = (Valkey, Nats, Postgres)
"""PostgreSQL last: its first start prepares for half a second, in which the others come up."""


class Servers:
    """A server for each address that is not set."""

    def __init__(self, home: Path, env: Mapping[str, str], console: Console) -> None:
        self.all = [kind(home) for kind in KINDS if not is_given(kind, env)]
        self._restarts = {server.name: Restarts() for server in self.all}
        self._console = console

    def start(self, cancelled: Callable[[], bool]) -> dict[str, str]:
        """Start them all at the same time; return their addresses by setting. Raises ServerFailed."""
        if self.all:
            self._console.say(f"Starting {', '.join(server.title for server in self.all)}")
        for server in self.all:
            if not cancelled():
                server.launch()
        for server in self.all:
            server.wait_ready(cancelled=cancelled)
            self._restarts[server.name].note_start(time.monotonic())
            self._restarts[server.name].came_up = True
        return {server.setting: server.url for server in self.all}

    def mend(self) -> bool:
        """Start again what crashed, at its old address; return whether anything changed. Never waits for an answer."""
        changes = [self._mend(server, time.monotonic()) for server in self.all]
        return any(changes)

    def _mend(self, server: EmbeddedServer, now: float) -> bool:
        restarts = self._restarts[server.name]
        code = server.exit_code()
        if code is None:
            return False
        if restarts.is_due(now):
            self._launch(server)
            restarts.note_start(now)
            return True
        if not restarts.ended:
            pause = restarts.note_end(now)
            self._console.say(
                f"{server.title} ended (exit code {code}); it is started again in {pause:g} s: {server.log}"
            )
            return True
        return False

    def _launch(self, server: EmbeddedServer) -> None:
        try:
            server.launch()
        except (ServerFailed, OSError) as why:
            self._console.say(str(why))  # a full disk, for one: tried again after a longer pause

    def identities(self) -> list[Identity]:
        """Return what a later start needs to recognise them."""
        return [identity for server in self.all if (identity := server.identity())]

    def stop(self, seconds: float, hurried: Callable[[], bool]) -> None:
        """Stop them all within so many seconds, or at once if we are hurried."""
        for server in self.all:
            server.ask_to_stop()
        deadline = time.monotonic() + seconds
        for server in self.all:
            server.stop(0 if hurried() else max(0.0, deadline - time.monotonic()))


def is_given(kind: type[EmbeddedServer], env: Mapping[str, str]) -> bool:
    """Whether the environment names a server of this kind. An empty variable is as one that is not set."""
    variables = REDIS_VARIABLES if kind is Valkey else (kind.setting,)
    return any(env.get(variable) for variable in variables)
