"""Keys and what they are good for."""

from __future__ import annotations

from app.keyring import Caller, Keyring, Permission
from core.api_keys import parse_api_keys

KEYS = {"one": {"permissions": ["read"], "name": "a", "owner": "ada"}, "zwö": {"permissions": ["admin"], "name": "b"}}


def test_a_key_is_found_by_its_bytes() -> None:
    keyring = Keyring(parse_api_keys(KEYS))

    assert keyring.find(b"one") == Caller("a", "ada", frozenset({"read"}))
    assert keyring.find("zwö".encode()) == Caller("b", "b", frozenset({"admin"}))
    assert keyring.find(b"two") is None
    assert keyring.find(b"") is None
    assert Keyring([]).find(b"") is None


def test_admin_may_everything_and_sees_everybody() -> None:
    admin = Caller("a", "ada", frozenset({"admin"}))

    assert all(map(admin.may, Permission))
    assert admin.sees is None


def test_writing_is_not_reading_and_neither_is_administration() -> None:
    writer = Caller("a", "ada", frozenset({"write"}))

    assert [permission for permission in Permission if writer.may(permission)] == [Permission.WRITE]
    assert writer.sees == "ada"
