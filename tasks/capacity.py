"""How many sessions this worker takes: exactly its slots, first in first out, nothing taken that cannot run.

The slot is reserved when the message is *received*, in the consumer's own greenlet and before the pool; with the last one
the queue is cancelled there and then. A freed slot adds the queue again and wakes the consumer, which otherwise sits in its
wait for messages for a second, by a no-op on the worker's own queue: about 10 ms from a freed slot to the next start.
Both calls change the set of selected queues first, so a pause survives a reconnect to the broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

import gevent
import structlog

from core import metrics
from tasks.queue import SESSIONS

if TYPE_CHECKING:
    from collections.abc import Callable


log = structlog.get_logger(__name__)

CHECK_SECONDS: Final = 5.0


class Capacity:
    """Counts slots. `wake` sends the no-op."""

    def __init__(self, slots: int, wake: Callable[[], object]) -> None:
        self._slots = slots
        self._wake = wake
        self._used = 0
        self._consumer: Any = None
        self._paused = False
        self._closed = False
        metrics.SLOTS_TOTAL.set(slots)

    def reserve(self, consumer: Any) -> None:
        """A start was received: take a slot, and no more messages with the last one."""
        self._consumer = consumer
        self._used += 1
        metrics.SLOTS_USED.set(self._used)
        if self._used >= self._slots and not self._paused:
            self._paused = True
            consumer.cancel_task_queue(SESSIONS)

    def release(self) -> None:
        """A session is over, or was not ours to run."""
        self._used -= 1
        metrics.SLOTS_USED.set(self._used)
        if self._paused and not self._closed and self._used < self._slots:
            self._paused = False
            self._consumer.call_soon(self._resume)
            self._wake()

    def keep_consuming(self) -> NoReturn:
        """Add the queue again, for good, should that once have failed: a worker with free slots must not sit idle."""
        while True:
            gevent.sleep(CHECK_SECONDS)
            tasks = getattr(self._consumer, "task_consumer", None)
            if tasks is not None and not self._paused and not self._closed and not tasks.consuming_from(SESSIONS):
                log.warning("free slots and no queue; consuming again", used=self._used, slots=self._slots)
                self._consumer.call_soon(self._resume)
                self._wake()

    def _resume(self) -> None:
        if not self._paused and not self._closed:
            self._consumer.add_task_queue(SESSIONS)

    def close(self, consumer: Any) -> None:
        """Take no more sessions, for good."""
        self._closed = True
        if not self._paused and consumer is not None:
            self._paused = True
            consumer.call_soon(consumer.cancel_task_queue, SESSIONS)

    def hurry_consumer(self) -> None:
        """Let the consumer notice that the process is to leave: it looks between two waits for messages of two seconds each."""
        for _ in range(2):
            self._wake()
