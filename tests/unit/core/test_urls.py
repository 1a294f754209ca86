"""Addresses as platforms spell them, and texts that show none of their secrets."""

from __future__ import annotations

import pytest

from core import urls


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_every_spelling_of_a_postgresql_address_means_psycopg2(scheme: str) -> None:
    rest = "u%40x:p%2Fq@h:5432/d?sslmode=require"

    assert urls.database_url(f"{scheme}://{rest}") == f"postgresql+psycopg2://{rest}"
    assert urls.database_url(f"{scheme}:///d?host=/run/postgresql") == "postgresql+psycopg2:///d?host=/run/postgresql"


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite:///x", "h/d", "", "postgresql+psycopg://h/d", "postgresql"])
def test_another_dialect_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not a PostgreSQL address"):
        urls.database_url(url)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("redis://h/0", "redis://h/0"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("rediss://:p@h:1", "rediss://:p@h:1?ssl_cert_reqs=none"),
        ("rediss://h/0?health_check_interval=3", "rediss://h/0?health_check_interval=3&ssl_cert_reqs=none"),
        ("rediss://h/0?ssl_cert_reqs=required", "rediss://h/0?ssl_cert_reqs=required"),
    ],
)
def test_a_redis_address_over_tls_says_how_certificates_are_checked(given: str, taken: str) -> None:
    assert urls.redis_url(given, "none") == taken
    assert urls.broker_url(given, "none") == taken


def test_a_broker_need_not_be_redis() -> None:
    assert urls.broker_url("amqp://u:p@h//", "none") == "amqp://u:p@h//"
    with pytest.raises(ValueError, match="is not an address"):
        urls.broker_url("rabbit", "none")


def test_nats_takes_several_addresses() -> None:
    several = "nats://a:4222, tls://token@b:4222"

    assert urls.nats_url(several) == several
    for wrong in ("http://a", "nats://a,", "a:4222"):
        with pytest.raises(ValueError, match="is not a NATS address"):
            urls.nats_url(wrong)


@pytest.mark.parametrize(
    "url", ["postgresql://u:hush/hush@h/d", "postgresql://u:hush#hush@h/d", "postgresql://[hush/d"]
)
def test_an_address_that_falls_apart_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="is not an address") as refused:
        urls.database_url(url)

    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql://u:hush@h/d.", "at postgresql://u:***@h/d."),
        ("redis://:hu@sh@h:1/0", "redis://:***@h:1/0"),
        ("nats://u:hush@a:1,nats://u:hush@b:1", "nats://u:***@a:1,nats://u:***@b:1"),
        ("nats://hush@a:1, tls://hush@b", "nats://***@a:1, tls://***@b"),
        ("amqp://u:hu,sh@h//", "amqp://u:***@h//"),
        ("host=h password=hush dbname=d", "host=h password=*** dbname=d"),
        ("redis://h/0?password=hush&db=1", "redis://h/0?password=***&db=1"),
        ("/api/v1/sessions/1/stream?after=3&ticket=hush", "/api/v1/sessions/1/stream?after=3&ticket=***"),
        ("http://h:80/p and me@example.org", "http://h:80/p and me@example.org"),
        ("https://h/path?seen=a@b", "https://h/path?seen=a@b"),
    ],
)
def test_a_shown_address_keeps_all_but_its_secrets(text: str, shown: str) -> None:
    assert urls.without_secrets(text) == shown
