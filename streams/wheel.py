"""One timer for thousands: who wants to be looked at in so many seconds is in the slot that is turned to then."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


class Wheel(Generic[T]):
    """Slots of `tick` seconds. Nothing is ever taken out before its time: who is gone is passed over then."""

    def __init__(self, tick: float, now: float) -> None:
        self._tick = tick
        self._turned = math.floor(now / tick)
        self._slots: dict[int, list[T]] = {}

    def add(self, item: T, at: float) -> None:
        """Hand an item out in the first turn at or after that time."""
        slot = max(math.ceil(at / self._tick), self._turned + 1)
        self._slots.setdefault(slot, []).append(item)

    def turn(self, now: float) -> Iterator[T]:
        """Yield what is due. What is added meanwhile is due in a later turn."""
        last = math.floor(now / self._tick)
        while self._turned < last:
            self._turned += 1
            yield from self._slots.pop(self._turned, ())
