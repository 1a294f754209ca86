"""Identifiers: UUIDv7, ordered by time, so that primary keys grow at one end and pages follow creation."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from datetime import datetime


def uuid7() -> UUID:
    """Return a new UUID of version 7 (RFC 9562): 48 bits of milliseconds, 74 random bits. Python has it from 3.14."""
    return _with(time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10), "big"))


def first_of(at: datetime) -> UUID:
    """Return the smallest id that can be made in that millisecond; before 1970 there is none smaller."""
    return _with(max(0, int(at.timestamp() * 1000)), 0)


def _with(millis: int, random: int) -> UUID:
    high = (millis & 0xFFFFFFFFFFFF) << 16 | 0x7000 | (random >> 68) & 0x0FFF
    low = 0b10 << 62 | random & 0x3FFFFFFFFFFFFFFF
    return UUID(int=high << 64 | low)
