"""Asking a server once for what several requests want to know at the same moment.

What comes while a question is on its way is gathered into the next one. So a question is always sent after the request
that asks it has come: the answer is as fresh as if it had been asked alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import gevent
from gevent.event import AsyncResult

from app.process import is_patched

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Question = TypeVar("Question")
Answer = TypeVar("Answer")

AT_ONCE: Final = 500
"""A single answer must not keep the loop busy for long."""
A_LOOK_SECONDS: Final = 0.001


class Silence(Exception):
    """The server has not answered in time."""


class Batching(Generic[Question, Answer]):
    """Gathers questions. `answer_all` answers them all, in their order; what it raises, everybody who asked gets.

    An answer that is an exception is for the one who asked. `at_once`: questions in one; more wait for the next.
    `patience`: however busy this process is with itself, nobody waits longer than so many times the limit.
    """

    def __init__(
        self,
        answer_all: Callable[[list[Question]], Sequence[Answer | Exception]],
        *,
        patience: int = 1,
        at_once: int = AT_ONCE,
    ) -> None:
        self._answer_all = answer_all
        self._at_once = at_once
        self._patience = patience
        self._waiting: list[tuple[Question, AsyncResult[Answer | Exception]]] = []
        self._asking = False
        self._sent_at = 0.0

    def ask(self, question: Question, seconds: float) -> Answer:
        """Return the answer. Raises Silence if the server says nothing for so long; the question goes on without us."""
        if not is_patched():
            return _given(self._answer_all([question])[0])
        result = self._put(question)
        self._wait(result, seconds)
        answer: Answer | Exception = result.get(block=False)
        return _given(answer)

    @property
    def waiting(self) -> int:
        """Return how many questions have not been sent yet."""
        return len(self._waiting)

    def tell(self, question: Question) -> None:
        """Ask without waiting for an answer."""
        if is_patched():
            self._put(question)
        else:
            self._answer_all([question])

    def _put(self, question: Question) -> AsyncResult[Answer | Exception]:
        result: AsyncResult[Answer | Exception] = AsyncResult()
        self._waiting.append((question, result))
        if not self._asking:
            self._asking = True
            gevent.spawn(self._ask)
        return result

    def _wait(self, result: AsyncResult[Answer | Exception], seconds: float) -> None:
        """Wait for the server, not for ourselves: in a busy process the answer may have come long ago, unread."""
        give_up = time.monotonic() + self._patience * seconds
        while result.wait(timeout=seconds) is None and not result.ready():
            gevent.sleep(A_LOOK_SECONDS)  # the loop reads what there is
            now = time.monotonic()
            if not result.ready() and (now - self._sent_at >= seconds or now >= give_up):
                raise Silence

    def _ask(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._at_once], self._waiting[self._at_once :]
                self._ask_for(batch)
        finally:
            self._asking = False

    def _ask_for(self, batch: list[tuple[Question, AsyncResult[Answer | Exception]]]) -> None:
        self._sent_at = time.monotonic()
        try:
            answers = self._answer_all([question for question, _ in batch])
        except Exception as fault:  # noqa: BLE001  (it is theirs who asked)
            for _, result in batch:
                result.set_exception(fault)
            return
        for (_, result), answer in zip(batch, answers, strict=True):
            result.set(answer)


def _given(answer: Answer | Exception) -> Answer:
    if isinstance(answer, Exception):
        raise answer
    return answer
