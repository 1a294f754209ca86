"""The mirror's connection to NATS: opened, its streams made or looked at, messages published in order.

One connection, and nothing that is sent twice by itself: what was sent when a connection broke is sent again by whoever has
the rows, from the first that was not acknowledged. So the streams have what was sent as far as it came, without a hole.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import nats
import nats.errors
import orjson
import structlog
from nats.js import api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from core import urls
from streams.envelopes import DEAD_STREAM, STREAM, dead_subjects, subjects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.settings import Settings
    from streams.envelopes import Message

log = structlog.get_logger(__name__)

CONNECT_SECONDS: Final = 2
ACK_SECONDS: Final = 5.0
PING_SECONDS: Final = 5
"""A server that vanished without a word is noticed in about three times this, when there is nothing to send."""
BAD_REQUEST: Final = 400
OF_THE_STREAM: Final = frozenset({10060, 10109, 10047, 10076, 10077})
"""Refusals that are no message's fault: another stream has the subjects, it is sealed, it is full, the server is."""
ANOTHER_CAME_BETWEEN: Final = frozenset({10070, 10071})
"""Not behind the message it was to follow: to be sent again, by itself."""


class NatsAway(Exception):
    """NATS cannot be used. The message says why, for people, and shows no password."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many messages of a row were acknowledged, the first ones; and why the next one was not, if it is its own fault."""

    acknowledged: int
    refused: str | None = None


class JetStream:
    """An open connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._context = connection.jetstream()
        self._inbox = connection.new_inbox()
        self._acks: dict[str, asyncio.Future[None]] = {}
        self._sent = 0
        self._differences: list[str] = []
        self._letters = 0

    @classmethod
    async def open(cls, settings: Settings) -> JetStream:
        """Connect, and see to the streams. Raises NatsAway."""
        servers = [server.strip() for server in (settings.nats_url or "").split(",")]
        options: dict[str, Any] = {"user_credentials": os.fspath(settings.nats_creds)} if settings.nats_creds else {}
        try:
            connection = await asyncio.wait_for(
                nats.connect(
                    servers,
                    name="jelmore mirror",
                    allow_reconnect=False,
                    connect_timeout=CONNECT_SECONDS,
                    reconnect_time_wait=0,
                    max_reconnect_attempts=1,
                    ping_interval=PING_SECONDS,
                    max_outstanding_pings=2,
                    error_cb=_noted,
                    **options,
                ),
                CONNECT_SECONDS * (len(servers) + 1),
            )
        except Exception as fault:  # whatever is wrong with the address, the credentials, the certificate
            raise NatsAway(f"NATS does not let us in: {words(fault)}") from fault
        link = cls(connection)
        try:
            await connection.subscribe(f"{link._inbox}.*", cb=link._answered)
            for wanted in (_of_events(settings), _of_the_dead(settings)):
                await link._see_to(wanted)
        except BaseException as fault:
            await link.close()
            if isinstance(fault, Exception):
                raise NatsAway(f"NATS has no JetStream for us: {words(fault)}") from fault
            raise
        return link

    async def close(self) -> None:
        """Let go of the connection."""
        with suppress(Exception):
            await asyncio.wait_for(self._connection.close(), CONNECT_SECONDS)

    @property
    def is_open(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return bool(self._connection.is_connected)

    @property
    def max_bytes(self) -> int:
        """Return how large a message may be, as the server says."""
        return int(self._connection.max_payload)

    # Streams.

    async def _see_to(self, wanted: api.StreamConfig) -> None:
        """Make a stream, or note in what the one that is there differs from what is set here. It is left as it is."""
        try:
            info = await self._context.stream_info(wanted.name)
        except NotFoundError:
            await self._context.add_stream(wanted)
            log.info("stream made", stream=wanted.name, subjects=wanted.subjects)
            return
        if wanted.name == DEAD_STREAM:
            self._letters = info.state.messages
        self._differences += [
            f"stream {wanted.name} has {name} {getattr(info.config, name)}, not {value}: it is left as it is"
            for name, value in _compared(wanted).items()
            if getattr(info.config, name) != value
        ]

    @property
    def notes(self) -> list[str]:
        """Return what an operator should know though it works."""
        dead = [f"{self._letters} dead letters are in stream {DEAD_STREAM}"] if self._letters else []
        return [*self._differences, *dead]

    async def bury(self, letter: Message) -> Outcome:
        """Put a message among the dead letters. Raises NatsAway."""
        outcome = await self.publish([letter], stream=DEAD_STREAM)
        self._letters += outcome.acknowledged
        return outcome

    # Messages.

    async def publish(self, messages: Sequence[Message], stream: str = STREAM) -> Outcome:
        """Send messages in order, each behind the one before it or not at all. Raises NatsAway."""
        acks: list[asyncio.Future[None]] = []
        before = None
        for message in messages:
            if message.size > self.max_bytes:
                break
            headers = {**message.headers, "Nats-Expected-Stream": stream}
            if before is not None:
                headers["Nats-Expected-Last-Msg-Id"] = before
            before = message.id
            try:
                acks.append(await self._send(message, headers))
            except (nats.errors.Error, OSError) as fault:
                await self._settled(acks)
                raise NatsAway(f"NATS went away: {words(fault)}") from fault
        if not acks:
            return Outcome(0, f"it has more than the {self.max_bytes} bytes that the server takes")
        await self._settled(acks)
        return _outcome(acks)

    # nats-py has this as `publish_async`, but (2.16) never says so when the server refuses.

    async def _send(self, message: Message, headers: dict[str, str]) -> asyncio.Future[None]:
        self._sent += 1
        reply = f"{self._inbox}.{self._sent}"
        ack = self._acks[reply] = asyncio.get_running_loop().create_future()
        await self._connection.publish(message.subject, message.data, reply=reply, headers=headers)
        return ack

    async def _answered(self, answer: Any) -> None:
        ack = self._acks.pop(answer.subject, None)
        if ack is None or ack.done():
            return
        if not answer.data:  # nobody is there to answer
            ack.set_exception(NoStreamResponseError())
        elif error := orjson.loads(answer.data).get("error"):
            ack.set_exception(APIError(**error))
        else:
            ack.set_result(None)

    async def _settled(self, acks: Sequence[asyncio.Future[None]]) -> None:
        """Wait for acknowledgements; those that do not come are given up."""
        if acks:
            await asyncio.wait(acks, timeout=ACK_SECONDS)
        for ack in acks:
            ack.cancel()
        self._acks.clear()


def _outcome(acks: Sequence[asyncio.Future[None]]) -> Outcome:
    faults = [(None if ack.cancelled() else ack.exception()) for ack in acks]  # each looked at, or asyncio complains
    for number, (ack, fault) in enumerate(zip(acks, faults, strict=True)):
        if fault is None and not ack.cancelled():
            continue
        if isinstance(fault, APIError) and fault.err_code in ANOTHER_CAME_BETWEEN and number > 0:
            return Outcome(number)
        if _is_its_own(fault):
            return Outcome(number, words(fault))
        if number > 0:
            return Outcome(number)  # what came through is noted first; the rest shows itself the next time
        raise NatsAway(f"NATS does not take events: {words(fault) if fault else 'no acknowledgement'}")
    return Outcome(len(acks))


def _is_its_own(fault: BaseException | None) -> bool:
    """Whether a refusal is about the message, not about the stream or the server."""
    return isinstance(fault, APIError) and fault.code == BAD_REQUEST and fault.err_code not in OF_THE_STREAM


def words(fault: BaseException | None) -> str:
    """Say what went wrong without what may be secret."""
    if isinstance(fault, NoStreamResponseError):
        return "no stream takes the subject"
    if isinstance(fault, APIError) and fault.description:
        return str(fault.description)
    said = str(fault) or type(fault).__name__
    return urls.without_secrets(said.removeprefix("nats: "))


async def _noted(fault: Exception) -> None:
    log.debug("NATS", error=words(fault))


def _of_events(settings: Settings) -> api.StreamConfig:
    return api.StreamConfig(
        name=STREAM,
        subjects=subjects(settings.nats_subject_prefix),
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        max_age=settings.nats_stream_max_age_seconds,
        max_bytes=settings.nats_stream_max_bytes or -1,
        duplicate_window=min(settings.nats_duplicate_window_seconds, settings.nats_stream_max_age_seconds),
        num_replicas=settings.nats_stream_replicas,
    )


def _of_the_dead(settings: Settings) -> api.StreamConfig:
    """Dead letters have the limits of events, but few are expected."""
    return _of_events(settings).evolve(name=DEAD_STREAM, subjects=dead_subjects(settings.nats_subject_prefix))


def _compared(wanted: api.StreamConfig) -> dict[str, Any]:
    names = ("subjects", "retention", "storage", "max_age", "max_bytes", "duplicate_window", "num_replicas")
    return {name: getattr(wanted, name) for name in names}
