"""Bytes of a pipe taken apart into JSON objects, however they were cut on their way. Pure.

A line may be some hundred kilobytes long; one that is longer than MOST_BYTES is passed over and told of, so that a program that
forgot its newline fills no memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES: Final = 16 * 1024 * 1024


class Unreadable(ValueError):
    """A line that is no JSON object; the words say what it looked like."""


class Lines:
    """What is held of a line whose end has not come."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held = bytearray()
        self._is_too_long = False

    def take(self, data: bytes) -> Iterator[dict[str, Any] | Unreadable]:
        """Yield what is complete: objects, and what is none. Blank lines are nothing."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._hold(piece)
            yield from self._completed()
        self._hold(rest)

    def end(self) -> Iterator[dict[str, Any] | Unreadable]:
        """Yield what the last line had, without its newline."""
        yield from self._completed()

    def _hold(self, piece: bytes) -> None:
        if self._is_too_long or len(self._held) + len(piece) > self._most_bytes:
            self._is_too_long = True
            self._held.clear()
        else:
            self._held += piece

    def _completed(self) -> Iterator[dict[str, Any] | Unreadable]:
        line, too_long = bytes(self._held).strip(), self._is_too_long
        self._held.clear()
        self._is_too_long = False
        if too_long:
            yield Unreadable(f"a line of more than {self._most_bytes} bytes")
        elif line:
            yield _object(line)


def _object(line: bytes) -> dict[str, Any] | Unreadable:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return Unreadable(line[:200].decode(errors="replace"))
    return value if isinstance(value, dict) else Unreadable(f"a line that is no object: {type(value).__name__}")
