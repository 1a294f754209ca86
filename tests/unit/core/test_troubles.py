"""What libraries say when a server cannot be used, and what is made of it."""

from __future__ import annotations

import pytest

from core import troubles


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ('connection to server at "db" (10.0.0.1), port 5432 failed: Connection refused', "is down"),
        ('FATAL:  password authentication failed for user "jelmore"', "refuses the user or the password"),
        ("fe_sendauth: no password supplied", "refuses the user or the password"),
        ('FATAL:  database "jelmroe" does not exist', "no database of the name"),
        ('FATAL:  role "jelmroe" does not exist', "does not know the user"),
        ("FATAL:  sorry, too many clients already", "no more connections"),
        ("FATAL:  the database system is starting up", "starting up"),
        ('could not translate host name "dbb" to address: Name or service not known', "host name"),
        ("no answer from PostgreSQL for 3 s", "in time"),
        ("connection to server failed: timeout expired", "in time"),
        ("something new", "does not let us in"),
    ],
)
def test_what_keeps_postgresql_away_is_named(words: str, said: str) -> None:
    assert said in troubles.of_postgres(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Error 111 connecting to 10.0.0.1:6379. Connection refused.", "is down: nothing listens where X_URL points"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "the password in X_URL"),
        ("Authentication required.", "the password in X_URL"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "full"),
        ("MISCONF Valkey is configured to save RDB snapshots", "cannot save"),
        ("You can't write against a read only replica.", "replica"),
        ("Timeout reading from socket", "in time"),
        ("something new", "does not let us in"),
    ],
)
def test_what_keeps_redis_away_is_named_with_its_variable(words: str, said: str) -> None:
    assert said in troubles.of_redis(words, "X_URL")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nats: no servers available for connection", "is down"),
        ("[Errno 111] Connect call failed ('127.0.0.1', 1)", "is down"),
        ("nats: 'Authorization Violation'", "refuses the user"),
        ("nats: timeout", "in time"),
        (
            "nats: ServiceUnavailableError: code=None err_code=None description='None' no responders",
            "without JetStream",
        ),
        ("something new", "does not let us in"),
    ],
)
def test_what_keeps_nats_away_is_named(words: str, said: str) -> None:
    assert said in troubles.of_nats(words)
