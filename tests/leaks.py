"""The secrets that tests use, and whether anything the service wrote holds one of them.

Whatever starts a process or speaks to one says here which secrets it uses (`know_settings`, `know_exchange`); whatever stops one
has everything looked through that was written meanwhile: logs and other files, every table, Redis and all that was ever written
to it. A find fails the run and names its place. Looked for as they are, as base64 (bodies of tasks), and keys and tickets also by
their shape.

A variable of a session is a secret of its client's, not of the service: the session's own program may print it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import psycopg2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import redis

SHORTEST: Final = 6
"""Shorter texts stand everywhere."""
SHAPE: Final = r"jmr_([0-9a-f]{32}|ticket)_[A-Za-z0-9]{43}"
MINTED: Final = re.compile(rb'"(?:key|ticket)":\s*"(jmr_[A-Za-z0-9_]+)"')
EXCERPT_BYTES: Final = 80
MOST_FINDS: Final = 20
GREP_SECONDS: Final = 120

CREDENTIALS: Final = ("valkey.conf", "api_key")
"""Files that are there to hold one, readable by their owner alone."""
NOT_OURS: Final = ("workspaces", "postgres")
"""Directories of sessions, and of PostgreSQL, whose tables are looked at instead."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Where which secret stands."""

    secret: str
    place: str

    def __str__(self) -> str:
        return f"{self.secret} in {self.place}"


class Secrets:
    """What is to be found nowhere. `clients`: variables of sessions, which their programs may print."""

    def __init__(self) -> None:
        self.ours: dict[str, str] = {}
        self.clients: dict[str, str] = {}

    def know(self, text: str, what: str) -> None:
        """Remember a secret of the service's."""
        if len(text) >= SHORTEST:
            self.ours[text] = what

    def know_settings(self, variables: Mapping[str, str]) -> None:
        """Remember what stands in an environment: keys, and passwords in addresses."""
        try:
            keys = json.loads(variables.get("API_KEYS") or "{}")
        except ValueError:
            keys = {}
        for key in keys:
            self.know(key, "an API key")
        for login in variables.get("FLOWER_BASIC_AUTH", "").split(","):
            self.know(login.partition(":")[2], "a password of Flower")
        for name, value in variables.items():
            if name.endswith("_URL") and (password := urlsplit(value).password):
                self.know(unquote(password), f"the password in {name}")

    def know_exchange(self, body: object, answer: bytes) -> None:
        """Remember what a request gave away, and what its answer did."""
        for found in MINTED.findall(answer):
            self.know(found.decode(), "a key or ticket")
            self.know(found.decode().rpartition("_")[2], "the secret of a key or ticket")
        env = body.get("env") if isinstance(body, dict) else None
        for name, value in env.items() if isinstance(env, dict) else ():
            if isinstance(value, str) and len(value) >= SHORTEST:
                self.clients[value] = f"the session's variable {name}"

    # Looking.

    def in_file(self, path: Path, place: str, *, printed: bool = False) -> Iterator[Leak]:
        """Find secrets in one file. `printed`: what sessions print stands there too."""
        known = self.ours if printed else self.ours | self.clients
        needles = {needle: (text, what) for text, what in known.items() for needle in _spellings(text)}
        for offset, match in _grep("-F", needles, path):
            text, what = needles[match.decode()]
            yield Leak(f"{what} ({text})", f"{place}: {_around(path, offset)}")
        for offset, match in _grep("-E", [SHAPE], path):
            if match.decode() not in known:
                yield Leak(f"what looks like a key or a ticket ({match.decode()})", f"{place}: {_around(path, offset)}")

    def in_home(self, home: Path) -> Iterator[Leak]:
        """Find secrets in whatever stands below a directory of the service's."""
        for directory, below, names in os.walk(home):
            below[:] = [name for name in below if name not in NOT_OURS]
            for path in (Path(directory) / name for name in names):
                is_kept = path.name in CREDENTIALS or path.suffix == ".password"
                if path.is_file() and not path.is_symlink() and not is_kept:
                    is_log = path.suffix == ".log" or path.name == "log"
                    yield from self.in_file(path, f"the file {path}", printed=not is_log)

    def in_database(self, url: str) -> Iterator[Leak]:
        """Find secrets in every table."""
        with _connected(url) as cursor, tempfile.TemporaryDirectory() as scratch:
            for table, columns in _columns(cursor).items():
                path = Path(scratch) / table
                with path.open("wb") as file:
                    cursor.copy_expert(f"COPY (SELECT {', '.join(columns)} FROM {table}) TO STDOUT", file)
                yield from self.in_file(path, f"the table {table}", printed=table in ("segments", "inputs"))
                path.unlink()

    def in_redis(self, client: redis.Redis) -> Iterator[Leak]:
        """Find secrets in every key and value. What was written and is gone stands in the server's own files (`in_home`)."""
        with tempfile.NamedTemporaryFile() as logs, tempfile.NamedTemporaryFile() as rest:
            for key in client.scan_iter(count=1000):
                file = logs if key.endswith(b":log") else rest
                file.write(key + b"\t" + repr(_value(client, key)).encode() + b"\n")
            for file, printed in ((logs, True), (rest, False)):
                file.flush()
                yield from self.in_file(Path(file.name), "Redis", printed=printed)


KNOWN: Final = Secrets()
"""Of this test process."""


def refuse(leaks: Iterable[Leak]) -> None:
    """Fail if there is one."""
    found = sorted({str(leak) for leak in leaks})
    assert not found, "secrets were written:\n" + "\n".join(found[:MOST_FINDS])


def _spellings(text: str) -> list[str]:
    """Return a secret as it may stand somewhere: plain, or within base64, wherever in it."""
    raw = text.encode()
    spelt = [text]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        # The first and the last characters depend on what stands beside it.
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - (1 if (shift + len(raw)) % 3 else 0)]
        if len(inner) > SHORTEST:
            spelt.append(inner)
    return spelt


def _grep(kind: str, patterns: Iterable[str], path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield offset and text of the first matches in a file: by grep, for many patterns and much text cost it little."""
    with tempfile.NamedTemporaryFile("w", suffix=".patterns") as listed:
        listed.write("\n".join(patterns))
        listed.flush()
        if not Path(listed.name).stat().st_size:
            return
        program = shutil.which("grep", path=os.defpath) or "grep"
        command = [program, "-a", "-b", "-o", "-m", str(MOST_FINDS), kind, "-f", listed.name, os.fspath(path)]
        grep = subprocess.run(command, capture_output=True, env={"LC_ALL": "C"}, timeout=GREP_SECONDS, check=False)
    if grep.returncode > 1:
        raise RuntimeError(f"{path} cannot be looked through: {grep.stderr.decode(errors='replace')}")
    for line in grep.stdout.splitlines():
        offset, _, match = line.partition(b":")
        yield int(offset), match


def _around(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(max(0, offset - EXCERPT_BYTES))
        return repr(file.read(3 * EXCERPT_BYTES))


class _connected:  # noqa: N801  (read as a function)
    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url.replace("postgresql+psycopg2", "postgresql"), connect_timeout=5)

    def __enter__(self) -> Any:
        return self._connection.cursor()

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _columns(cursor: Any) -> dict[str, list[str]]:
    """Return what to select of each table, bytes so that text in them can be read."""
    cursor.execute(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name NOT IN (SELECT table_name FROM information_schema.views) ORDER BY 1, ordinal_position"
    )
    tables: dict[str, list[str]] = {}
    for table, column, kind in cursor.fetchall():
        shown = f"encode(\"{column}\", 'escape')" if kind == "bytea" else f'"{column}"'
        if (table, column) == ("sessions", "env"):
            # The one place a session's variables have, for as long as it lives.
            shown = "CASE WHEN ended_at IS NULL THEN NULL ELSE env END"
        tables.setdefault(table, []).append(shown)
    return tables


def _value(client: redis.Redis, key: bytes) -> Any:
    readers: dict[bytes, Any] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda name: client.lrange(name, 0, -1),
        b"zset": lambda name: client.zrange(name, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    kind: Any = client.type(key)
    reader = readers.get(kind)
    return None if reader is None else reader(key)
