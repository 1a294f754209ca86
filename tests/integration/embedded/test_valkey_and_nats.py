"""The embedded Valkey and NATS: on this machine alone, with a password, with their data after a kill."""

from __future__ import annotations

import asyncio
import socket
import stat
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.errors import Error as NatsError
from redis import Redis
from redis.exceptions import AuthenticationError

from jelmore.embedded import EmbeddedServer, Nats, ServerFailed, Valkey
from tests.checks import eventually

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("fast", [True, False])
def test_valkey_keeps_what_it_answered_for(tmp_path: Path, *, fast: bool) -> None:
    server = Valkey(tmp_path / "a home", fast=fast)
    try:
        url = server.start()
        Redis.from_url(url).set("kept", "yes")
        server.kill()

        assert server.start() == url
        assert Redis.from_url(url).get("kept") == b"yes"
    finally:
        server.stop()


def test_valkey_refuses_rather_than_forgets_when_memory_is_full(valkey: Valkey) -> None:
    assert Redis.from_url(valkey.url).config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_nobody_gets_into_valkey_without_the_password(valkey: Valkey) -> None:
    with pytest.raises(AuthenticationError):
        Redis(port=valkey.port or 0).ping()


async def _publish(url: str) -> Any:
    connection = await nats.connect(url, allow_reconnect=False, error_cb=_ignored)
    try:
        stream = connection.jetstream()
        await stream.add_stream(name="kept", subjects=["kept.*"])
        await stream.publish("kept.one", b"yes")
        return (await stream.stream_info("kept")).state.messages
    finally:
        await connection.close()


async def _ignored(_: Exception) -> None:
    """The error is raised as well."""


def test_nats_keeps_its_streams_and_its_address(tmp_path: Path) -> None:
    server = Nats(tmp_path / "a home")
    try:
        url = server.start()
        assert asyncio.run(_publish(url)) == 1
        server.kill()

        assert server.start() == url
        assert asyncio.run(_publish(url)) == 2
    finally:
        server.stop()


def test_nobody_gets_into_nats_without_the_password(nats: Nats) -> None:
    with pytest.raises(NatsError, match="Authorization"):
        asyncio.run(_publish(f"nats://127.0.0.1:{nats.port}"))


@pytest.mark.parametrize("kind", [Valkey, Nats])
def test_the_files_with_a_password_are_their_owners_alone(kind: type[EmbeddedServer], tmp_path: Path) -> None:
    server = kind(tmp_path, fast=True)
    try:
        server.start()
        with_password = [
            path for path in tmp_path.rglob("*") if path.is_file() and server.password.encode() in path.read_bytes()
        ]
    finally:
        server.stop()

    assert len(with_password) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in with_password} == {0o600}


@pytest.mark.parametrize("kind", [Valkey, Nats])
def test_a_paused_server_can_be_stopped(kind: type[EmbeddedServer], tmp_path: Path) -> None:
    server = kind(tmp_path, fast=True)
    server.start()
    server.pause()
    server.stop()

    assert server.exit_code() is not None


def test_a_port_that_was_taken_meanwhile_is_replaced_by_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = taken.getsockname()[1]
        server = Valkey(tmp_path, fast=True)
        free = server.choose_port
        ports = iter([first])
        server.choose_port = lambda: next(ports, None) or free()  # type: ignore[method-assign]
        try:
            server.start()
            assert server.port != first
        finally:
            server.stop()


def test_a_server_that_does_not_come_up_is_a_sentence_with_its_last_words(tmp_path: Path) -> None:
    server = Valkey(tmp_path, fast=True)
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "appendonlydir").write_text("in the way")
    with pytest.raises(ServerFailed) as failed:
        server.start()

    assert "Valkey ended at its start with exit code 1" in str(failed.value)
    assert "set REDIS_URL" in str(failed.value)
    assert "append" in str(failed.value).lower()
    eventually(lambda: server.exit_code() is not None)
