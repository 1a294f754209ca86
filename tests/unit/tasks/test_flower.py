"""When Flower may start, and what it is told of a broker behind TLS."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from core.settings import load_settings
from tasks import flower
from tasks.flower import fault_of, over_tls


@dataclass
class Options:
    """Flower's, as far as they are looked at."""

    address: str = ""
    basic_auth: list[str] = field(default_factory=list)
    auth: str = ""
    unix_socket: str = ""


CELERY = ("celery", "-A", "tasks.celery", "flower")


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "10.0.0.7", "flower.internal"])
def test_in_production_it_does_not_stand_open(address: str) -> None:
    assert fault_of(Options(address), CELERY, production=True) == flower.OPEN
    assert fault_of(Options(address), CELERY, production=False) is None


@pytest.mark.parametrize(
    "options",
    [
        Options("127.0.0.1"),
        Options("::1"),
        Options("localhost"),
        Options("0.0.0.0", basic_auth=["me:secret"]),
        Options("0.0.0.0", auth=".*@example.org"),
        Options(unix_socket="/run/flower.sock"),
    ],
    ids=repr,
)
def test_with_a_login_or_on_loopback_alone_it_starts(options: Options) -> None:
    assert fault_of(options, CELERY, production=True) is None


@pytest.mark.parametrize("word", ["--basic_auth=me:secret", "--basic-auth=me:secret", "-basic_auth=me:secret"])
def test_a_password_on_the_command_line_is_refused_everywhere(word: str) -> None:
    for production in (True, False):
        fault = fault_of(Options(basic_auth=["me:secret"]), (*CELERY, word), production=production)
        assert fault == flower.ON_COMMAND_LINE


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://h", {}),
        ("amqp://h", {}),
        ("rediss://:p@h:1", {"ssl_cert_reqs": "none"}),
        (
            "rediss://h?ssl_cert_reqs=required&ssl_ca_certs=/etc/ca.pem",
            {"ssl_cert_reqs": "required", "ssl_ca_certs": "/etc/ca.pem"},
        ),
    ],
)
def test_its_page_of_queues_checks_certificates_as_the_address_says(url: str, told: dict[str, str]) -> None:
    assert over_tls(load_settings({"CELERY_BROKER_URL": url})) == told
