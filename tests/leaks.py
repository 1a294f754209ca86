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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import redis

SHORTEST: Final = 6
"""Shorter texts stand everywhere."""
BEGINNING: Final = "jmr_"
SHAPE: Final = re.compile(rb"jmr_([0-9a-f]{32}|ticket)_[A-Za-z0-9]{43}")
SHAPED_BYTES: Final = 4 + 32 + 1 + 43
MINTED: Final = re.compile(rb'"(?:key|ticket|secret)":\s*"((?:jmr|whsec)_[A-Za-z0-9_+/=]+)"')
EXCERPT_BYTES: Final = 80
MOST_FINDS: Final = 20
GREP_SECONDS: Final = 120

CREDENTIALS: Final = ("valkey.conf", "nats.conf", "api_key")
"""Files that are there to hold one, readable by their owner alone."""
PRINTED: Final = ("segments", "inputs")
"""Tables with what sessions print and are told."""
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
        self.databases: set[str] = set()
        """Those that were looked through."""

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
            text = found.decode()  # its end is the secret: whoever wrote all of it wrote that
            self.know(
                text.split("_", 2 if text.startswith(BEGINNING) else 1)[-1], "a key, a ticket, a webhook's secret"
            )
        env = body.get("env") if isinstance(body, dict) else None
        for name, value in env.items() if isinstance(env, dict) else ():
            if isinstance(value, str) and len(value) >= SHORTEST:
                self.clients[value] = f"the session's variable {name}"

    # Looking.

    def in_file(self, path: Path, place: str, *, printed: bool = False) -> Iterator[Leak]:
        """Find secrets in one file. `printed`: what sessions print stands there too."""
        for find in self._finds([path], printed=printed):
            yield Leak(find.secret, f"{place}: {find.around()}")

    def in_home(self, home: Path) -> Iterator[Leak]:
        """Find secrets in whatever stands below a directory of the service's."""
        logs: list[Path] = []
        others: list[Path] = []
        for directory, below, names in os.walk(home):
            below[:] = [name for name in below if name not in NOT_OURS]
            for path in (Path(directory) / name for name in names):
                is_kept = path.name in CREDENTIALS or path.suffix == ".password"
                if path.is_file() and not path.is_symlink() and not is_kept:
                    (logs if path.suffix == ".log" or path.name == "log" else others).append(path)
        for paths, printed in ((logs, False), (others, True)):
            for find in self._finds(paths, printed=printed):
                yield Leak(find.secret, f"the file {find.path}: {find.around()}")

    def in_database(self, url: str) -> Iterator[Leak]:
        """Find secrets in every table."""
        self.databases.add(url)
        with tempfile.TemporaryDirectory() as scratch:
            paths = _dumped(url, Path(scratch))
            for printed in (False, True):
                some = [path for path in paths if (path.name in PRINTED) is printed]
                for find in self._finds(some, printed=printed):
                    yield Leak(find.secret, f"the table {find.path.name}: {find.around()}")

    def in_redis(self, client: redis.Redis) -> Iterator[Leak]:
        """Find secrets in every key and value. What was written and is gone stands in the server's own files (`in_home`)."""
        with tempfile.NamedTemporaryFile() as logs, tempfile.NamedTemporaryFile() as rest:
            for key in client.scan_iter(count=1000):
                file = logs if key.endswith(b":log") else rest
                file.write(key + b"\t" + repr(_value(client, key)).encode() + b"\n")
            for file, printed in ((logs, True), (rest, False)):
                file.flush()
                yield from self.in_file(Path(file.name), "Redis", printed=printed)

    def _finds(self, paths: Sequence[Path], *, printed: bool) -> Iterator[Find]:
        known = self.ours if printed else self.ours | self.clients
        needles = {needle: f"{what} ({text})" for text, what in known.items() for needle in _spellings(text)}
        for path, offset, match in _grep([*needles, BEGINNING], paths):
            if match in needles:
                yield Find(needles[match], path, offset)
            elif (shaped := SHAPE.match(_bytes_of(path, offset, SHAPED_BYTES))) is not None:
                yield Find(f"what looks like a key or a ticket ({shaped[0].decode()})", path, offset)


@dataclass(frozen=True, slots=True)
class Find:
    """A secret at an offset of a file."""

    secret: str
    path: Path
    offset: int

    def around(self) -> str:
        """Return the text it stands in."""
        return repr(_bytes_of(self.path, max(0, self.offset - EXCERPT_BYTES), 3 * EXCERPT_BYTES))


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


def _grep(texts: Iterable[str], paths: Sequence[Path]) -> Iterator[tuple[Path, int, str]]:
    """Yield file, offset and text of what is found: by grep, which for many texts in much costs a second for 100 MiB."""
    paths = [path for path in paths if path.stat().st_size]
    if not paths:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".texts") as listed:
        listed.write("\n".join(texts))
        listed.flush()
        program = shutil.which("grep", path=os.defpath) or "grep"
        command = [program, "-F", "-a", "-b", "-o", "-H", "--null", "-f", listed.name, *map(os.fspath, paths)]
        grep = subprocess.run(command, capture_output=True, env={"LC_ALL": "C"}, timeout=GREP_SECONDS, check=False)
    if grep.returncode > 1:
        raise RuntimeError(f"grep failed: {grep.stderr.decode(errors='replace')}")
    for line in grep.stdout.splitlines():
        name, _, rest = line.partition(b"\0")
        offset, _, match = rest.partition(b":")
        yield Path(os.fsdecode(name)), int(offset), match.decode()


def _bytes_of(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _dumped(url: str, directory: Path) -> list[Path]:
    """Write every table of a database into a file of its name."""
    paths = []
    connection = psycopg2.connect(url.replace("postgresql+psycopg2", "postgresql"), connect_timeout=5)
    try:
        with connection.cursor() as cursor:
            for table, columns in _columns(cursor).items():
                paths.append(directory / table)
                with paths[-1].open("wb") as file:
                    cursor.copy_expert(f"COPY (SELECT {', '.join(columns)} FROM {table}) TO STDOUT", file)
    finally:
        connection.close()
    return paths


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
