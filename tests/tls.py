"""TLS in front of a server that speaks none, with a certificate that nobody else has signed: as platforms' Redis has it."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tests.needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK_BYTES: Final = 64 * 1024
START_SECONDS: Final = 10.0


def self_signed(directory: Path) -> ssl.SSLContext:
    """Make a certificate for a name that nobody asks for, and what serves it."""
    key, certificate = directory / "tls.key", directory / "tls.crt"
    subprocess.run(
        [
            *(needs("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=ip-10-0-0-1.ec2.internal", "-days", "2", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@contextmanager
def behind_tls(url: str, directory: Path) -> Iterator[str]:
    """Return the address over TLS of the server at `url` (redis://), by a loop in a thread of its own."""
    context, target = self_signed(directory), urlsplit(url)
    loop, started, ports = asyncio.new_event_loop(), threading.Event(), list[int]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            near, far = await asyncio.open_connection(target.hostname, target.port)
            await asyncio.gather(_pump(reader, far), _pump(near, writer))

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()

    def run() -> None:
        loop.create_task(serve())
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(START_SECONDS), "no TLS"
    login = target.netloc.rpartition("@")[0]
    try:
        yield target._replace(scheme="rediss", netloc=f"{login}@127.0.0.1:{ports[0]}", path="").geturl()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_SECONDS)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, and its end."""
    with suppress(OSError, asyncio.CancelledError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.close()
