"""The environment as one object, and every fault of it at once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.errors import ConfigurationError
from core.rates import Rate
from core.settings import Settings, environment, load_settings

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / ".env.example"
LONG_KEY = "secret-of-at-least-24-characters"
KEY = json.dumps({LONG_KEY: {"permissions": ["admin"], "name": "ops"}})
PRODUCTION = {"JELMORE_ENV": "production", "API_KEYS": KEY}
LISTS = ["CORS_ORIGINS", "PROGRAMS_ENABLED", "SESSION_ROOTS", "WEBHOOK_ALLOW_PRIVATE", "FLOWER_BASIC_AUTH"]


def faults(**environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load_settings(environ)
    return refused.value.faults


def faulty(**environ: str) -> set[str]:
    return {fault.split()[0] for fault in faults(**environ)}


# Faults.


def test_all_faults_are_told_together_each_with_its_variable() -> None:
    wrong = {
        "API_KEYS": "{",
        "PORT": "x",
        "LEASE_SECONDS": "-1",
        "DATABASE_URL": "mysql://h/d",
        "REDIS_URL": "http://h",
        "CELERY_BROKER_URL": "rabbit",
        "NATS_URL": "http://h",
        "CORS_ORIGINS": "[",
        "RATE_LIMIT_GLOBAL": "often",
        "LOG_LEVEL": "loud",
        "JELMORE_ENV": "staging",
        "SESSION_ROOTS": "here",
        "WEBHOOK_ALLOW_PRIVATE": "home",
        "FLOWER_BASIC_AUTH": "me",
        "API_PREFIX": "api/",
        "WORKER_NAME": "a b",
        "NATS_MIRROR_OUTPUT": "perhaps",
        "JELMORE_PROGRAMS": "{",
        "SESSION_USER": "root and others",
    }

    assert faulty(**wrong) == set(wrong)


def test_a_faulty_variable_hides_no_contradiction_of_others() -> None:
    told = faults(PORT="x", LEASE_SECONDS="5", LEASE_RENEWAL_SECONDS="3", JELMORE_ENV="production")

    assert {fault.split()[0] for fault in told} == {"PORT", "LEASE_RENEWAL_SECONDS", "API_KEYS"}


def test_a_faulty_variable_contradicts_nothing() -> None:
    assert faulty(LEASE_SECONDS="no", LEASE_RENEWAL_SECONDS="14") == {"LEASE_SECONDS"}
    assert len(faults(JELMORE_ENV="production", API_KEYS="{")) == 1


def test_every_faulty_key_has_its_sentence() -> None:
    keys = '{"a": {"permissions": ["root"], "name": "ann"}, "b": {"permissions": [], "name": "bob"}}'
    told = faults(API_KEYS=keys)

    assert [fault.startswith("API_KEYS ") for fault in told] == [True, True]


def test_a_fault_is_a_sentence() -> None:
    for fault in faults(
        PORT="x", LOG_LEVEL="loud", API_KEYS="{", CORS_ORIGINS="[1]", API_PREFIX="x", LEASE_SECONDS="0"
    ):
        assert re.fullmatch(r"[A-Z_]+ (is|should|must|needs|has) .*[^.]\.", fault)


def test_the_error_shows_every_fault() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_settings({"PORT": "x", "API_PORT": "y"})

    assert all(fault in str(refused.value) for fault in refused.value.faults)


@pytest.mark.parametrize(
    "environ",
    [
        {"API_KEYS": '{"hush": {"permissions": ["root"]}}'},
        {"API_KEYS": '{"hush": '},
        {"API_KEYS": '{"hush": {"permissions": ["admin"]}}', "JELMORE_ENV": "production"},
        {"DATABASE_URL": "mysql://u:hush@h/d"},
        {"DATABASE_URL": "postgresql://u:hush/hush@h/d"},
        {"REDIS_URL": "http://:hush@h"},
        {"REDIS_URL": "redis://[hush"},
        {"NATS_URL": "http://hush@h"},
        {"CELERY_BROKER_URL": "redis://:hush/1@h"},
        {"FLOWER_BASIC_AUTH": "hush"},
        {"FLOWER_BASIC_AUTH": '["hush'},
        {"FLOWER_BASIC_AUTH": '["me:hush,hush"]'},
        {"FLOWER_URL": "https://me:hush@h"},
        {"FLOWER_URL_PREFIX": "/hush hush"},
        {"DYNO": "hush hush"},
        {"WORKER_NAME": "hush hush"},
        {"JELMORE_ENV": "hush"},
        {"PORT": "hush"},
        {"JELMORE_PROGRAMS": "/hush"},
        {"JELMORE_PROGRAMS": '{"p": {"argv": ["hush"], "env": {"TOKEN-": "hush"}, "stop_signal": "hush"}}'},
        {"SESSION_USER": "Hush!"},
    ],
)
def test_no_fault_shows_a_value(environ: dict[str, str]) -> None:
    assert "hush" not in " ".join(faults(**environ))


@given(st.dictionaries(st.sampled_from([name.upper() for name in Settings.model_fields]), st.text(), max_size=5))
def test_whatever_the_environment_says_there_are_settings_or_faults_of_what_it_says(environ: dict[str, str]) -> None:
    try:
        load_settings(environ)
    except ConfigurationError as refused:
        told = {fault.split()[0] for fault in refused.faults}
        assert told <= environ.keys() | {"API_KEYS", "LEASE_RENEWAL_SECONDS", "WORKER_WATCHDOG_SECONDS"}


# Single variables.


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields if not name.startswith("rate_limit_")])
def test_an_empty_variable_is_as_one_that_is_not_set(name: str) -> None:
    assert load_settings({name: ""}) == load_settings({})


@pytest.mark.parametrize("rule", ["GLOBAL", "AUTHENTICATION", "SESSION_CREATION", "STREAMING", "WEBSOCKET"])
def test_an_empty_rate_limit_is_off(rule: str) -> None:
    name = f"RATE_LIMIT_{rule}"

    assert getattr(load_settings({name: ""}), name.lower()) is None
    assert getattr(load_settings({name: "7/second"}), name.lower()) == Rate(7, "second")
    assert getattr(load_settings({}), name.lower()) is not None


def test_only_capitals_name_a_variable() -> None:
    assert load_settings({"port": "1", "Port": "2"}).port is None


def test_foreign_variables_mean_nothing() -> None:
    assert load_settings({"PATH": "/bin", "HOME": "/root"}) == load_settings({})


def test_port_beats_api_port() -> None:
    assert load_settings({}).listen_port == 8000
    assert load_settings({"API_PORT": "9000"}).listen_port == 9000
    assert load_settings({"API_PORT": "9000", "PORT": "9001"}).listen_port == 9001


@pytest.mark.parametrize("port", ["0", "65536", "-1", "8e3", "80.5"])
def test_a_port_is_a_port(port: str) -> None:
    assert faulty(PORT=port) == {"PORT"}


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e999", "5s"])
def test_a_time_is_positive_and_ends(seconds: str) -> None:
    assert faulty(LEASE_SECONDS=seconds) == {"LEASE_SECONDS"}


def test_a_level_may_be_written_small() -> None:
    assert load_settings({"LOG_LEVEL": "debug"}).log_level == "DEBUG"


@pytest.mark.parametrize("variable", LISTS)
@pytest.mark.parametrize("broken", ["[", '["a"', "[1]", '[["a"]]', "[{}]"])
def test_a_broken_list_is_a_fault(variable: str, broken: str) -> None:
    assert faulty(**{variable: broken}) == {variable}


def test_lists_are_json_or_words_between_commas() -> None:
    both = ("https://a", "https://b:8443")

    assert load_settings({"CORS_ORIGINS": '["https://a", "https://b:8443"]'}).cors_origins == both
    assert load_settings({"CORS_ORIGINS": "https://a, https://b:8443,"}).cors_origins == both
    assert load_settings({"SESSION_ROOTS": "/srv, /home"}).session_roots == (Path("/srv"), Path("/home"))
    assert load_settings({"CORS_ORIGINS": "[]"}).cors_origins == ()


@pytest.mark.parametrize("origin", ["https://a/", "https://a/path", "a.example", "https://", "https://a b"])
def test_an_origin_that_no_browser_sends_is_a_fault(origin: str) -> None:
    assert faulty(CORS_ORIGINS=origin) == {"CORS_ORIGINS"}


def test_networks_are_networks() -> None:
    assert load_settings({"WEBHOOK_ALLOW_PRIVATE": "127.0.0.2,fd00::/8"}).webhook_allow_private == (
        "127.0.0.2",
        "fd00::/8",
    )
    assert faulty(WEBHOOK_ALLOW_PRIVATE="10.0.0.1/8") == {"WEBHOOK_ALLOW_PRIVATE"}


# Servers.


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_every_spelling_of_a_postgresql_address_means_psycopg2(scheme: str) -> None:
    assert load_settings({"DATABASE_URL": f"{scheme}://u:p@h/d"}).database_url == "postgresql+psycopg2://u:p@h/d"


def test_certificates_of_redis_are_checked_if_somebody_says_so() -> None:
    assert load_settings({"REDIS_URL": "rediss://h:1/0"}).redis_url == "rediss://h:1/0?ssl_cert_reqs=none"
    asked = "rediss://h:1/0?ssl_cert_reqs=required"
    assert load_settings({"REDIS_URL": asked}).redis_url == asked
    told = load_settings({"REDIS_URL": "rediss://h:1/0", "REDIS_SSL_CERT_REQS": "required"})
    assert told.redis_url == told.celery_broker_url == asked


@pytest.mark.parametrize(
    ("environ", "taken"),
    [
        ({}, "redis://localhost:6379/0"),
        ({"REDISCLOUD_URL": "redis://cloud"}, "redis://cloud"),
        ({"REDISCLOUD_URL": "redis://cloud", "REDIS_URL": "redis://plain"}, "redis://plain"),
        (
            {"REDIS_TLS_URL": "rediss://tls?ssl_cert_reqs=none", "REDIS_URL": "redis://p"},
            "rediss://tls?ssl_cert_reqs=none",
        ),
        ({"REDIS_TLS_URL": "", "REDIS_URL": "redis://plain"}, "redis://plain"),
    ],
)
def test_redis_is_where_the_platform_says(environ: dict[str, str], taken: str) -> None:
    assert load_settings(environ).redis_url == load_settings(environ).celery_broker_url == taken


@pytest.mark.parametrize("variable", ["REDIS_TLS_URL", "REDIS_URL", "REDISCLOUD_URL"])
def test_a_fault_of_redis_names_the_variable_that_was_set_and_no_other(variable: str) -> None:
    assert len(told := faults(**{variable: "redis://h:x"})) == 1
    assert told[0].startswith(f"{variable} ")


def test_the_broker_may_be_another() -> None:
    settings = load_settings({"REDIS_URL": "redis://h/3", "CELERY_BROKER_URL": "amqp://b"})

    assert (settings.redis_url, settings.celery_broker_url) == ("redis://h/3", "amqp://b")


# What fits together.


def test_a_lease_leaves_time_for_a_second_try() -> None:
    assert faulty(LEASE_SECONDS="5", LEASE_RENEWAL_SECONDS="3") == {"LEASE_RENEWAL_SECONDS"}


def test_the_watchdog_lets_a_worker_drain_first() -> None:
    assert faulty(WORKER_DRAIN_SECONDS="25") == {"WORKER_WATCHDOG_SECONDS"}
    assert load_settings({"WORKER_DRAIN_SECONDS": "25", "WORKER_WATCHDOG_SECONDS": "29"}).worker_drain_seconds == 25


def test_every_time_can_be_a_fifth() -> None:
    defaults = load_settings({})
    times = {
        name.upper(): str(getattr(defaults, name) / 5)
        for name, about in Settings.model_fields.items()
        if name.endswith("_seconds") and about.annotation is float
    }
    fast = load_settings(times)

    assert len(times) > 20
    assert all(getattr(fast, name.lower()) * 5 == pytest.approx(getattr(defaults, name.lower())) for name in times)


def test_production_refuses_what_is_good_enough_for_development() -> None:
    assert load_settings(PRODUCTION).in_production
    assert "at least one key" in faults(JELMORE_ENV="production")[0]
    short = '{"short": {"permissions": ["read"]}, "brief": {"permissions": ["read"], "name": "n"}}'
    assert len(faults(JELMORE_ENV="production", API_KEYS=short)) == 3
    assert len(load_settings({"API_KEYS": short}).api_keys) == 2


def test_production_offers_no_shell_and_no_foreign_origin_unless_told() -> None:
    assert load_settings(PRODUCTION).programs_enabled == ("echo", "cat", "claude")
    assert load_settings({}).programs_enabled == ("shell", "echo", "cat", "claude")
    assert load_settings(PRODUCTION).cors_origins == ()
    assert load_settings({}).cors_origins == ("*",)
    assert load_settings(PRODUCTION | {"PROGRAMS_ENABLED": "shell"}).programs_enabled == ("shell",)


# Programs.

PYTHON = '{"python": {"argv": ["/usr/bin/python3", "-i"]}}'


def test_configured_programs_are_enabled_beside_the_built_in_ones() -> None:
    assert load_settings({"JELMORE_PROGRAMS": PYTHON}).programs_enabled == ("shell", "echo", "cat", "claude", "python")
    assert load_settings(PRODUCTION | {"JELMORE_PROGRAMS": PYTHON}).programs_enabled == (
        "echo",
        "cat",
        "claude",
        "python",
    )
    only = load_settings({"JELMORE_PROGRAMS": PYTHON, "PROGRAMS_ENABLED": "python"})
    assert (only.programs_enabled, [program.name for program in only.programs]) == (("python",), ["python"])


def test_enabling_a_program_that_nobody_knows_is_a_fault() -> None:
    (told,) = faults(PROGRAMS_ENABLED="echo,pyhton", JELMORE_PROGRAMS=PYTHON)

    assert told.startswith("PROGRAMS_ENABLED ")
    assert "pyhton" in told
    assert faulty(PROGRAMS_ENABLED="echo,python") == {"PROGRAMS_ENABLED"}


def test_a_default_program_that_was_chosen_must_be_enabled() -> None:
    assert faulty(DEFAULT_PROGRAM="python") == {"DEFAULT_PROGRAM"}
    assert faulty(**PRODUCTION, DEFAULT_PROGRAM="shell") == {"DEFAULT_PROGRAM"}
    assert load_settings({"DEFAULT_PROGRAM": "python", "JELMORE_PROGRAMS": PYTHON}).default_program == "python"


def test_a_default_program_that_nobody_chose_may_be_off() -> None:
    assert load_settings(PRODUCTION).default_program == "claude"
    assert load_settings({"PROGRAMS_ENABLED": "echo"}).default_program == "claude"


def test_a_fault_of_the_programs_is_told_once_and_not_again_as_unknown_names() -> None:
    given = {"JELMORE_PROGRAMS": "{", "PROGRAMS_ENABLED": "python", "DEFAULT_PROGRAM": "python"}

    assert len(faults(**given)) == 1


def test_long_values_of_programs_variables_are_secrets() -> None:
    program = {"argv": ["/bin/agent"], "env": {"TOKEN": "a-token-of-some-length", "DEBUG": "1"}}
    settings = load_settings({"JELMORE_PROGRAMS": json.dumps({"agent": program})})

    assert settings.secrets == ("a-token-of-some-length",)


@pytest.mark.parametrize("users", ["jelmore-sessions", "1000", "20000-20999", "7-7"])
def test_users_of_sessions_are_a_name_a_uid_or_a_range(users: str) -> None:
    assert load_settings({"SESSION_USER": users}).session_user == users


@pytest.mark.parametrize("users", ["0", "0-5", "9-3", "1-", "-1", "a b", "Ann", "1-4294967295", "1--2", "a-b-c:d"])
def test_users_of_sessions_are_nothing_else(users: str) -> None:
    assert faulty(SESSION_USER=users) == {"SESSION_USER"}


# The object.


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings({}).api_port = 1


def test_no_representation_shows_a_secret() -> None:
    settings = load_settings(
        {
            "API_KEYS": KEY,
            "DATABASE_URL": "postgresql://u:hush@h/d",
            "REDIS_URL": "redis://:hush@h",
            "NATS_URL": "nats://u:hush@a,nats://u:hush@b,nats://hush@c",
            "FLOWER_BASIC_AUTH": "me:hush",
            "JELMORE_PROGRAMS": '{"p": {"argv": ["/p"], "env": {"TOKEN": "hush"}}}',
        }
    )

    for shown in (repr(settings), str(settings), f"{settings}"):
        assert "hush" not in shown
        assert "secret-of" not in shown
        assert "@h/d" in shown


def test_the_settings_know_their_secrets() -> None:
    assert load_settings({"API_KEYS": KEY, "FLOWER_BASIC_AUTH": "me:hu:sh"}).secrets == (LONG_KEY, "hu:sh")


def test_a_launcher_gets_a_copy_of_the_environment() -> None:
    environment()["JELMORE_ENV"] = "changed"

    assert environment().get("JELMORE_ENV") != "changed"


# The example.


def test_the_example_lists_every_setting_and_no_other() -> None:
    listed = re.findall(r"^([A-Z0-9_]+)=", EXAMPLE.read_text(), re.MULTILINE)

    assert listed == [name.upper() for name in Settings.model_fields]


def test_the_examples_values_are_the_defaults() -> None:
    values = dict(re.findall(r"^([A-Z0-9_]+)=(.+)$", EXAMPLE.read_text(), re.MULTILINE))

    assert load_settings(values) == load_settings({})
    for name, about in Settings.model_fields.items():
        follows_others = name in ("celery_broker_url", "cors_origins", "programs_enabled")
        assert (name.upper() in values) is (about.default not in (None, ()) and not follows_others), name
