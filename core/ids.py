"""Identifiers: UUIDv7, ordered by time, so that primary keys grow at one end and pages follow creation."""

from __future__ import annotations

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """Return a new UUID of version 7 (RFC 9562): 48 bits of milliseconds, 74 random bits. Python has it from 3.14."""
    millis = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    high = (millis & 0xFFFFFFFFFFFF) << 16 | 0x7000 | (random >> 68) & 0x0FFF
    low = 0b10 << 62 | random & 0x3FFFFFFFFFFFFFFF
    return UUID(int=high << 64 | low)
