"""`flask keys …` and `flask audit verify`: what an operator does beside the service, on its database. Output: a table, or JSON.

flask --app app:create_app keys create ci --permission read --permission write
flask --app app:create_app audit verify
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import re
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar
from uuid import UUID

import click
from flask import current_app
from flask.cli import AppGroup, with_appcontext
from sqlalchemy.exc import ProgrammingError

from app.api import key_schemas
from app.api.key_schemas import KeyRequest, KeyView, RotationRequest
from app.bodies import validated
from app.openapi.document import document
from app.web import current_web
from core.errors import DatabaseUnavailable, JelmoreError, NotFound, ValidationFailed
from models import api_keys, audit, audit_proof
from models.audit import Deed
from models.events import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from flask import Flask

    from models.api_keys import Shown
    from models.database import Transaction

P = ParamSpec("P")
R = TypeVar("R")

TABLE: Final = ("id", "name", "owner", "permissions", "expires_at", "last_used_at", "revoked_at")
ANCHOR: Final = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")

keys = AppGroup("keys", help="API keys in the database.")
chain = AppGroup("audit", help="The audit and its chain of seals.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def install(app: Flask) -> None:
    """Add the commands to `flask`."""
    app.cli.add_command(keys)
    app.cli.add_command(chain)
    app.cli.add_command(show_openapi)


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Say what went wrong in a sentence, on standard error, with exit code 1 (2: asked for what cannot be)."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        _log_to_stderr()
        try:
            return command(*args, **kwargs)
        except ValidationFailed as refused:
            _fail("; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in refused.errors), 2)
        except DatabaseUnavailable as fault:
            _fail(f"PostgreSQL at DATABASE_URL does not answer: {fault.__cause__}")
        except ProgrammingError as fault:
            _fail(f"The database is not up to date (python -m migrations upgrade): {fault.orig}")
        except JelmoreError as fault:
            _fail(fault.detail)

    return guarded


def _log_to_stderr() -> None:
    """Keep log lines out of what a program reads."""
    for handler in logging.root.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)


def _fail(sentence: str, code: int = 1) -> NoReturn:
    click.echo(sentence.strip(), err=True)
    sys.exit(code)


@click.command("openapi")
@with_appcontext
def show_openapi() -> None:
    """Print the OpenAPI document."""
    click.echo(json.dumps(document(current_app), indent=2, ensure_ascii=False))


# Keys.


@keys.command("create")
@click.argument("name")
@click.option("--permission", "permissions", multiple=True, required=True, help="read, write or admin; repeatable.")
@click.option("--owner", help="Whose sessions it makes and sees; default: the name.")
@click.option("--expires-at", help="When it ends: 2030-01-31T12:00:00Z. Default: never.")
@click.option("--max-sessions", type=int, help="How many sessions of it may be live at once.")
@click.option("--rate-limit", "rates", multiple=True, help="Instead of the general one: session_creation=20/minute.")
@as_json
@told
def create_key(name: str, permissions: Sequence[str], rates: Sequence[str], as_json: bool, **more: Any) -> None:
    """Make a key and print it: the only time it is seen."""
    limits = dict(rate.partition("=")[::2] for rate in rates)
    wanted = validated(KeyRequest, {"name": name, "permissions": list(permissions), "rate_limits": limits, **more})
    web = current_web()
    at = web.clock.at()
    with web.database.transaction() as tx:
        shown = key_schemas.create(tx, wanted, web.keyring.environment_names, _origin(), at=at)
        detail = {"name": wanted.name, "owner": shown.row.owner, "permissions": wanted.permissions}
        _note(tx, "key.create", shown.row.id, at=at, detail=detail)
    _show_new(shown, as_json=as_json)


@keys.command("list")
@click.option("--revoked", is_flag=True, help="Revoked ones, too.")
@as_json
@told
def list_keys(revoked: bool, as_json: bool) -> None:
    """List keys, newest first."""
    with current_web().database.transaction() as tx:
        rows = api_keys.list_keys(tx, with_revoked=revoked, limit=10_000)
    shown = [KeyView.of(row).as_json() for row in rows]
    click.echo(json.dumps(shown, indent=2) if as_json else _table(shown))


@keys.command("revoke")
@click.argument("key", metavar="ID_OR_NAME")
@as_json
@told
def revoke_key(key: str, as_json: bool) -> None:
    """Revoke a key: within 5 s nothing gets in with it, within 30 s its streams are closed."""
    web = current_web()
    at = web.clock.at()
    with web.database.transaction() as tx:
        row = api_keys.revoke(tx, _id_of(tx, key), _origin(), at=at)
        _note(tx, "key.revoke", row.id, at=at, detail={"name": row.name})
    click.echo(json.dumps(KeyView.of(row).as_json(), indent=2) if as_json else f"Key {row.name} ({row.id}) is revoked.")


@keys.command("rotate")
@click.argument("key", metavar="ID_OR_NAME")
@click.option(
    "--overlap-seconds", type=int, default=0, help="How long the old one is still taken; default: not at all."
)
@as_json
@told
def rotate_key(key: str, overlap_seconds: int, as_json: bool) -> None:
    """Give a key a new secret and print it: the only time it is seen."""
    wanted = validated(RotationRequest, {"overlap_seconds": overlap_seconds})
    web = current_web()
    at = web.clock.at()
    with web.database.transaction() as tx:
        shown = api_keys.rotate(tx, _id_of(tx, key), wanted.overlap_seconds, _origin(), at=at)
        _note(
            tx, "key.rotate", shown.row.id, at=at, detail={"name": shown.row.name, "overlap_seconds": overlap_seconds}
        )
    _show_new(shown, as_json=as_json)


def _id_of(tx: Transaction, key: str) -> UUID:
    try:
        return UUID(key)
    except ValueError:
        row = api_keys.by_name(tx, key)
    if row is None:
        raise NotFound("There is no such key.")
    return row.id


def _show_new(shown: Shown, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(key_schemas.with_key(shown), indent=2))
        return
    click.echo(shown.key)
    click.echo(f"Key {shown.row.name} ({shown.row.id}). It is not shown again.", err=True)


def _table(shown: Sequence[dict[str, Any]]) -> str:
    cells = [list(TABLE), *([_cell(key[column]) for column in TABLE] for key in shown)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value or "-")


# The audit.


@chain.command("verify")
@click.option("--anchor", "anchors", multiple=True, metavar="POSITION:SEAL", help="As it was logged; repeatable.")
@as_json
@told
def verify_audit(anchors: Sequence[str], as_json: bool) -> None:
    """Go over the chain; exit code 1 and the first bad row, if one was changed, removed or slipped in."""
    outside = dict(map(_anchor, anchors))
    with current_web().database.transaction() as tx:
        proof = audit_proof.verify(tx, outside)
    fault = proof.fault
    if as_json:
        at_fault = fault and {"audit_id": fault.audit_id, "position": fault.position, "why": fault.why}
        head = {"position": proof.head.position, "seal": proof.head.seal.hex()}
        told = {"ok": fault is None, "rows": proof.rows, "unsealed": proof.unsealed, "head": head, "fault": at_fault}
        click.echo(json.dumps(told, indent=2))
    elif fault is not None:
        name = "a missing row" if fault.audit_id is None else f"row {fault.audit_id}"
        place = "" if fault.position is None else f" (position {fault.position})"
        click.echo(
            f"The audit chain is broken at {name}{place}: {fault.why}. {proof.rows} rows before it hold.", err=True
        )
    else:
        click.echo(f"{proof.rows} rows hold, {proof.unsealed} newer ones are not sealed yet.")
        click.echo(f"Anchor: {proof.head.position}:{proof.head.seal.hex()}")
    sys.exit(0 if fault is None else 1)


def _anchor(spelled: str) -> tuple[int, bytes]:
    found = ANCHOR.fullmatch(spelled)
    if found is None:
        raise ValidationFailed(errors=[{"loc": ["--anchor"], "msg": "must be POSITION:SEAL, as it was logged"}])
    return int(found[1]), bytes.fromhex(found[2])


# Who does it.


def _origin() -> Origin:
    return Origin(f"flask:{_user()}")


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user has no name
        return str(os.getuid())


def _note(tx: Transaction, action: str, target: UUID, *, at: datetime, detail: dict[str, Any]) -> None:
    audit.record(tx, Deed(_origin().actor, action, "ok", at, target=str(target), detail=detail))
