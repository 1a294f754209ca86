"""Where `jelmore up` listens."""

from __future__ import annotations

import socket

import pytest

from jelmore.home import CannotStart
from jelmore.listening import Place, choose_place


def test_without_a_word_only_this_machine_can_connect() -> None:
    assert choose_place({}).host == "127.0.0.1"


def test_a_platform_that_sets_the_port_is_served_on_every_address() -> None:
    assert choose_place({"PORT": "18231"}).host == "0.0.0.0"
    assert choose_place({"PORT": "18231", "API_HOST": "127.0.0.1"}).host == "127.0.0.1"


def test_a_usual_port_in_use_is_replaced_and_a_wanted_one_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert not Place("127.0.0.1", port).is_free()
        with pytest.raises(CannotStart, match=f"port {port} is in use"):
            choose_place({"API_PORT": str(port)})


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "²"])
def test_a_port_that_is_none_is_a_sentence(port: str) -> None:
    with pytest.raises(CannotStart, match="not a number between"):
        choose_place({"PORT": port})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("10.0.0.9", "http://10.0.0.9:80"),
    ],
)
def test_the_address_that_is_told_can_be_opened_here(host: str, url: str) -> None:
    assert Place(host, 80).url == url


def test_nobody_there_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert not Place("127.0.0.1", port).answers()
