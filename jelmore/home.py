"""The home (`JELMORE_HOME`): one directory with the data, the secrets and the notes of one `jelmore up`.

It holds the lock that keeps a second `jelmore up` out, secrets in files only their owner may read, and the
list of the processes that were started, so that the next start can end what a killed one left.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jelmore.processes import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class CannotStart(Exception):
    """A sentence that says why `jelmore up` does not start, and what to do."""


class Home:
    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.metrics = self.path / "metrics"
        self._running = self.path / "running.json"

    @classmethod
    def open(cls, path: Path) -> Home:
        home = cls(path)
        try:
            for directory in (home.path, home.logs, home.metrics):
                directory.mkdir(parents=True, exist_ok=True)
            (home.path / "lock").touch()
        except OSError as error:
            raise CannotStart(
                f"The home {home.path} is not writable ({error.strerror}): "
                "make it writable, or choose another directory with --home or JELMORE_HOME."
            ) from error
        return home

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the home for this process. The kernel gives it back, whatever ends us."""
        with (self.path / "lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = lock.read().strip() or "unknown"
                raise CannotStart(
                    f"Another jelmore up (process {holder}) is running in {self.path}: "
                    "stop it, or choose another directory with --home or JELMORE_HOME."
                ) from error
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def secret(self, name: str) -> tuple[str, bool]:
        """A generated secret, the same at each start, and whether it is new."""
        return secret_in(self.path / name)

    def note_running(self, identities: Iterable[Identity]) -> None:
        draft = self._running.with_suffix(".new")
        draft.write_text(json.dumps([identity.to_json() for identity in identities]))
        draft.replace(self._running)

    def note_address(self, url: str | None) -> None:
        """Write down where the service answers, for commands run beside it; None: nowhere any more."""
        if url is None:
            (self.path / "url").unlink(missing_ok=True)
        else:
            (self.path / "url").write_text(f"{url}\n")

    def noted(self) -> list[Identity]:
        """The processes of the previous `jelmore up`."""
        try:
            return [Identity(**entry) for entry in json.loads(self._running.read_text())]
        except (OSError, ValueError, TypeError):
            return []  # never written, or cut by a full disk: nothing can be said about leftovers

    def clear_metrics(self) -> None:
        for file in self.metrics.glob("*.db"):
            file.unlink(missing_ok=True)


def secret_in(path: Path) -> tuple[str, bool]:
    """Read the secret, or generate one into a file only its owner can read; tell whether it is new."""
    if path.exists() and (known := path.read_text().strip()):
        path.chmod(0o600)
        return known, False
    generated = secrets.token_urlsafe(24)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(generated + "\n")
    draft.replace(path)
    return generated, True
