"""What API_KEYS may say."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from core.api_keys import parse_api_keys, production_faults
from core.rates import Rate

LONG = "secret-of-at-least-24-characters"


def refused(text: str) -> list[str]:
    with pytest.raises(ValueError, match=r"\w") as told:
        parse_api_keys(text)
    return str(told.value).split("\n")


def test_a_key_is_parsed_in_full() -> None:
    limits = {"streaming": "5/second", "global": ""}
    about = {"permissions": ["read"], "name": "ci", "owner": "team", "max_sessions": 3, "rate_limits": limits}
    (key,) = parse_api_keys(json.dumps({"k1": about}))

    assert (key.key, key.name, key.owner, key.permissions) == ("k1", "ci", "team", frozenset({"read"}))
    assert (key.max_sessions, key.rate_limits) == (3, {"streaming": Rate(5, "second"), "global": None})
    assert key.digest == hashlib.sha256(b"k1").digest()


def test_the_seeds_example_is_taken_as_it_is() -> None:
    admin, user = parse_api_keys('{"admin": {"permissions": ["admin"]}, "user": {"permissions": ["read", "write"]}}')

    assert admin.permissions == {"admin"}
    assert user.permissions == {"read", "write"}


def test_a_key_without_a_name_is_called_by_its_hash_and_owns_itself() -> None:
    (key,) = parse_api_keys('{"k2": {"permissions": ["admin"]}}')

    assert key.name == key.owner == f"env-{hashlib.sha256(b'k2').hexdigest()[:8]}"


def test_a_named_key_owns_itself_unless_told() -> None:
    (key,) = parse_api_keys('{"k": {"permissions": ["read"], "name": "ci", "owner": null}}')

    assert key.owner == "ci"


@pytest.mark.parametrize(
    "about",
    [
        {},
        [],
        None,
        {"permissions": []},
        {"permissions": "read"},
        {"permissions": ["root"]},
        {"permissions": [["read"]]},
        {"permissions": ["read"], "colour": "red"},
        {"permissions": ["read"], "max_sessions": 0},
        {"permissions": ["read"], "max_sessions": True},
        {"permissions": ["read"], "max_sessions": "3"},
        {"permissions": ["read"], "name": 5},
        {"permissions": ["read"], "name": ""},
        {"permissions": ["read"], "owner": "a\nb"},
        {"permissions": ["read"], "rate_limits": []},
        {"permissions": ["read"], "rate_limits": {"streaming": "often"}},
        {"permissions": ["read"], "rate_limits": {"streaming": 5}},
        {"permissions": ["read"], "rate_limits": {"singing": "5/minute"}},
    ],
)
def test_a_key_that_is_not_right_is_refused_and_not_shown(about: Any) -> None:
    told = refused(json.dumps({"s3cret-key": about}))

    assert len(told) == 1
    assert "s3cret-key" not in told[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '"k"', "null", "3", "[" * 100_000])
def test_what_is_no_object_is_refused(text: str) -> None:
    assert len(refused(text)) == 1


@pytest.mark.parametrize("key", ["", "a b", "a\tb", "a\x00b", "\ud800"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    assert "has a key that is empty" in refused(json.dumps({key: {"permissions": ["read"]}}))[0]


def test_every_faulty_key_is_told_by_its_name() -> None:
    told = refused('{"a": {"permissions": ["root"], "name": "ann"}, "b": {"name": "bob", "max_sessions": 0}}')

    assert [fault.rpartition("(")[2] for fault in told] == ["ann)", "bob)", "bob)"]


def test_nothing_is_named_twice() -> None:
    one = '{"permissions": ["read"], "name": "n"}'

    assert "twice" in refused(f'{{"k": {one}, "k": {one}}}')[0]
    assert "one name to two keys" in refused(f'{{"k": {one}, "l": {one}}}')[0]


def test_a_representation_shows_no_key() -> None:
    assert "k1" not in repr(parse_api_keys('{"k1": {"permissions": ["read"]}}'))


@pytest.mark.parametrize(
    ("keys", "faults"),
    [
        ({}, ["at least one key"]),
        ({LONG: {"permissions": ["read"], "name": "n"}}, []),
        ({LONG: {"permissions": ["read"]}}, ["a name"]),
        ({"short": {"permissions": ["read"], "name": "n"}}, ["24 characters"]),
        ({"short": {"permissions": ["read"]}, LONG: {"permissions": ["read"]}}, ["24 characters", "a name", "a name"]),
    ],
)
def test_production_takes_long_keys_with_names_only(keys: dict[str, Any], faults: list[str]) -> None:
    told = list(production_faults(parse_api_keys(json.dumps(keys))))

    assert len(told) == len(faults)
    assert all(fault in sentence for fault, sentence in zip(faults, told, strict=True))
