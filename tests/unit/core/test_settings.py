"""The environment as one object, and every fault of it at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.settings import Settings, load_settings

ROOT = Path(__file__).parents[3]
KEY = '{"secret-of-at-least-24-characters": {"permissions": ["admin"], "name": "ops"}}'


def faults(**environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(environ)
    return refused.value.faults


def test_all_faults_are_told_together_each_with_its_variable() -> None:
    told = faults(API_KEYS="{", PORT="x", LEASE_SECONDS="-1", DATABASE_URL="mysql://h/d", CORS_ORIGINS="[")

    assert {fault.split()[0] for fault in told} == {"API_KEYS", "PORT", "LEASE_SECONDS", "DATABASE_URL", "CORS_ORIGINS"}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_every_spelling_of_a_postgresql_address_means_psycopg2(scheme: str) -> None:
    assert load_settings({"DATABASE_URL": f"{scheme}://u:p@h/d"}).database_url == "postgresql+psycopg2://u:p@h/d"


def test_an_empty_variable_is_as_one_that_is_not_set() -> None:
    assert load_settings({"PORT": "", "NATS_URL": ""}) == load_settings({})


def test_an_empty_rate_limit_is_off() -> None:
    assert load_settings({"RATE_LIMIT_GLOBAL": ""}).rate_limit_global is None
    assert load_settings({}).rate_limit_global == "1000/hour"
    assert faults(RATE_LIMIT_GLOBAL="many")[0].startswith("RATE_LIMIT_GLOBAL")


def test_port_beats_api_port() -> None:
    assert load_settings({"API_PORT": "9000"}).listen_port == 9000
    assert load_settings({"API_PORT": "9000", "PORT": "9001"}).listen_port == 9001


def test_a_redis_address_over_tls_checks_no_certificate_unless_it_says_so() -> None:
    assert load_settings({"REDIS_URL": "rediss://h:1/0"}).redis_url == "rediss://h:1/0?ssl_cert_reqs=none"
    asked = "rediss://h:1/0?ssl_cert_reqs=required"
    assert load_settings({"REDIS_URL": asked}).redis_url == asked


def test_the_broker_is_redis_unless_it_is_named() -> None:
    assert load_settings({"REDIS_URL": "redis://h/3"}).celery_broker_url == "redis://h/3"
    assert load_settings({"REDIS_URL": "redis://h/3", "CELERY_BROKER_URL": "amqp://b"}).celery_broker_url == "amqp://b"
    assert load_settings({"REDIS_TLS_URL": "rediss://t/0", "REDIS_URL": ""}).redis_url.startswith("rediss://t/0")


def test_lists_are_json_or_words_between_commas() -> None:
    assert load_settings({"CORS_ORIGINS": '["https://a", "https://b"]'}).cors_origins == ("https://a", "https://b")
    assert load_settings({"CORS_ORIGINS": "https://a, https://b"}).cors_origins == ("https://a", "https://b")


def test_keys_are_parsed_in_full() -> None:
    written = '{"k1": {"permissions": ["read"], "name": "ci", "owner": "team", "max_sessions": 3},'
    written += ' "k2": {"permissions": ["admin"]}}'
    named, unnamed = load_settings({"API_KEYS": written}).api_keys

    assert (named.name, named.owner, named.permissions, named.max_sessions) == ("ci", "team", frozenset({"read"}), 3)
    assert re.fullmatch("env-[0-9a-f]{8}", unnamed.name)
    assert unnamed.owner == unnamed.name


@pytest.mark.parametrize(
    "keys",
    [
        "[]",
        '{"k": {}}',
        '{"k": {"permissions": []}}',
        '{"k": {"permissions": ["root"]}}',
        '{"k": {"permissions": ["read"], "colour": "red"}}',
        '{"k": {"permissions": ["read"], "max_sessions": 0}}',
        '{"": {"permissions": ["read"]}}',
        '{"a": {"permissions": ["read"], "name": "n"}, "b": {"permissions": ["read"], "name": "n"}}',
    ],
)
def test_keys_that_are_not_right_are_refused(keys: str) -> None:
    assert faults(API_KEYS=keys)[0].startswith("API_KEYS")


def test_no_fault_shows_a_value() -> None:
    told = faults(API_KEYS='{"top-secret": {"permissions": ["root"]}}', DATABASE_URL="mysql://u:top-secret@h/d")

    assert "top-secret" not in " ".join(told)


def test_neither_representation_shows_a_secret() -> None:
    settings = load_settings(
        {"API_KEYS": KEY, "DATABASE_URL": "postgresql://u:hush@h/d", "REDIS_URL": "redis://:hush@h"}
    )

    for shown in (repr(settings), str(settings)):
        assert "hush" not in shown
        assert "secret-of" not in shown


def test_production_refuses_what_is_good_enough_for_development() -> None:
    assert load_settings({"JELMORE_ENV": "production", "API_KEYS": KEY}).in_production
    assert "API_KEYS" in faults(JELMORE_ENV="production")[0]
    assert "24" in faults(JELMORE_ENV="production", API_KEYS='{"short": {"permissions": ["read"], "name": "n"}}')[0]
    nameless = '{"secret-of-at-least-24-characters": {"permissions": ["admin"]}}'
    assert "name" in faults(JELMORE_ENV="production", API_KEYS=nameless)[0]


def test_production_offers_no_shell_and_no_foreign_origin_unless_told() -> None:
    production = {"JELMORE_ENV": "production", "API_KEYS": KEY}

    assert "shell" not in load_settings(production).programs_enabled
    assert load_settings(production).cors_origins == ()
    assert load_settings({}).cors_origins == ("*",)
    assert load_settings(production | {"PROGRAMS_ENABLED": "shell"}).programs_enabled == ("shell",)


def test_a_lease_leaves_time_for_a_second_try() -> None:
    assert "LEASE_RENEWAL_SECONDS" in faults(LEASE_SECONDS="5", LEASE_RENEWAL_SECONDS="3")[0]


def test_the_example_lists_every_setting_and_no_other() -> None:
    listed = re.findall(r"^([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert [name for name, _ in listed] == [name.upper() for name in Settings.model_fields]


def test_the_examples_values_are_the_defaults() -> None:
    text = (ROOT / ".env.example").read_text()
    given = dict(re.findall(r"^([A-Z0-9_]+)=(.+)$", text, re.MULTILINE))

    assert load_settings(given) == load_settings({})
