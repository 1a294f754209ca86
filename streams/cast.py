"""A terminal session's output as an asciicast, version 2 (https://docs.asciinema.org/manual/asciicast/v2/). Pure."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streams.entries import Entry

MIME_TYPE: Final = "application/x-asciicast"
VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal, in characters."""

    cols: int
    rows: int


@dataclass(frozen=True, slots=True)
class Resize:
    """Another size, from a byte of the output on. `at_ms`: since 1970, as entries have it."""

    offset: int
    at_ms: int
    size: Size


def header(size: Size, began_ms: int, title: str) -> bytes:
    """Return the first line. `began_ms`: since 1970."""
    shown = {"version": VERSION, "width": size.cols, "height": size.rows}
    return _line({**shown, "timestamp": began_ms // 1000, "title": title})


def events(entries: Iterable[Entry], resizes: Sequence[Resize], began_ms: int) -> Iterator[bytes]:
    """Yield a line for each piece of output and each resize, in order; seconds count from the beginning, and never go back.

    A character that two entries share stands in the second one's line; what is no UTF-8 is U+FFFD, as JSON has to have it.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    waiting = [*resizes]
    seconds = 0.0

    def at(at_ms: int) -> float:
        nonlocal seconds
        seconds = max(seconds, (at_ms - began_ms) / 1000)
        return seconds

    for entry in entries:
        if not entry.is_output:
            continue
        while waiting and waiting[0].offset <= entry.offset:
            yield _resized(waiting[0], at(waiting[0].at_ms))
            del waiting[0]
        if text := decoder.decode(entry.data):
            yield _line([at(entry.at_ms), "o", text])
    if text := decoder.decode(b"", final=True):
        yield _line([seconds, "o", text])
    for resize in waiting:
        yield _resized(resize, at(resize.at_ms))


def _resized(resize: Resize, seconds: float) -> bytes:
    return _line([seconds, "r", f"{resize.size.cols}x{resize.size.rows}"])


def _line(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
