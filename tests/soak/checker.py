"""What must hold of every session after a soak, whatever was killed meanwhile. Pure: it compares what others have gathered.

What is kept of a program's output must be a beginning of what it `said`, and no shorter than what was `done`. Only the end of
what a process printed whose worker was lost may be missing: that is counted, not forgiven silently. A session that began again
has a record for each run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.soak.stories import FINAL, LOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.soak.stories import Fault, Row, Run, Seen, Story

SHOWN_BYTES: Final = 60
SLACK_SECONDS: Final = 1.0
"""Between the moment a fault is made and the moment it is noted down."""
STORED_SECONDS: Final = 2.0
"""After that long PostgreSQL has what Redis has, unless one of them, or the worker, is away."""
AFTER_SECONDS: Final = 8.0
"""How long a fault may show after it was mended: a worker finds itself fenced, leaves and starts anew."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Bytes that a program had printed and nobody has, at the end of a session that lost its worker."""

    name: str
    size: int
    reason: str


@dataclass
class Findings:
    """What a check came to."""

    violations: list[str] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)


ENDS: Final[dict[str, tuple[str, str, int | None, str | None]]] = {
    "delete": ("terminated", "requested", None, None),  # how it exits is its own affair
    "quit 0": ("completed", "exited", 0, None),
    "quit 3": ("failed", "exit_code", 3, None),
    "eof": ("completed", "exited", 0, None),
    "lines": ("completed", "exited", 0, None),
    "crash": ("failed", "signal", None, "KILL"),
    "timeout": ("terminated", "timeout", None, None),
}
"""For each plan: status, reason, exit code and signal of a session that nothing happened to."""
BY_ITSELF: Final = frozenset({"exited", "exit_code", "signal"})


def check(stories: Sequence[Story], faults: Sequence[Fault]) -> Findings:
    """Return every violation, and what was lost with its worker."""
    found = Findings()
    for story in stories:
        for complaint in _complaints(story, faults):
            found.violations.append(f"{story.name}: {complaint}")
        found.losses += losses_of(story)
    return found


def losses_of(story: Story) -> Iterator[Loss]:
    """Yield what is missing at the end of each run that lost its worker."""
    for index, (run, piece) in enumerate(assigned(story)):
        last = index == len(story.runs) - 1
        missing = run.done - len(piece)
        if missing > 0 and (story.is_lost or not last):
            yield Loss(story.name, missing, story.how[1] if last else "began again")


def assigned(story: Story) -> list[tuple[Run, bytes]]:
    """Return each run with the piece of output that is its own; an attempt may have printed nothing, or never run."""
    pieces = [piece for piece in story.pieces if piece]
    found = []
    for index, run in enumerate(story.runs):
        left = len(story.runs) - index
        fits = bool(pieces) and (run.said.startswith(pieces[0]) or len(pieces) >= left)
        found.append((run, pieces.pop(0) if fits else b""))
    return found


def _complaints(story: Story, faults: Sequence[Fault]) -> Iterator[str]:
    yield from _existence(story)
    if story.shown is None:
        return
    yield from _end(story, faults)
    yield from _output(story)
    for seen in story.readers:
        yield from _reader(story, seen, faults)
    yield from _glances(story, faults)
    yield from _inputs(story)


def _existence(story: Story) -> Iterator[str]:
    if len(story.session_ids) > 1:
        yield "one request made several sessions"
    if story.created == "accepted" and not story.session_ids:
        yield "accepted, and then not to be found"
    if story.created == "refused" and story.session_ids:
        yield "refused, and there all the same"
    if len(story.runs) > story.attempts:
        yield f"it was started {len(story.runs)} times, in {story.attempts} attempts"
    if story.attempts > 1 and not story.resumable:
        yield f"it began again, {story.attempts} times in all, though its program cannot"
    if not all(run.alone for run in story.runs):
        yield "it ran twice at the same time"
    if story.runs and not story.session_ids:
        yield "a process ran without a session"


# The end.


def _end(story: Story, faults: Sequence[Fault]) -> Iterator[str]:
    shown = story.shown or {}
    if shown["status"] not in FINAL:
        yield f"it never ended: {shown['status']}"
        return
    if shown["terminated_at"] is None or shown["reason"] is None:
        yield f"it ended without a time or a reason: {shown}"
    if story.is_lost:
        if (story.how[0] == "failed") != (story.how[1] in LOST):
            yield f"lost, and yet {'/'.join(story.how)}"
        if story.how[1] not in LOST and story.how not in set(_ways(story, faults)):
            yield f"it ended {'/'.join(story.how)}, which nobody asked for"
        if not _lost_for_a_reason(story, faults):
            yield f"{story.how[1]} on {shown['worker']}, though nothing was done to that worker or to PostgreSQL"
        return
    if story.how not in set(_ways(story, faults)):
        yield f"it ended {'/'.join(story.how)} {shown.get('reason_detail') or ''} {shown.get('error') or ''}".strip()
    elif story.how[1] in BY_ITSELF:
        yield from _exit(story)


def _ways(story: Story, faults: Sequence[Fault]) -> Iterator[tuple[str, str]]:
    """Yield every (status, reason) that fits what was asked of a session and done to its worker."""
    yield ENDS[story.plan][:2]
    if story.deleted:
        yield ENDS["delete"][:2]
    worker = (story.shown or {})["worker"]
    if any(fault.what == "leave" and fault.whom == worker for fault in faults):
        yield "terminated", "worker_shutdown"


def _exit(story: Story) -> Iterator[str]:
    shown = story.shown or {}
    _, _, code, number = ENDS[story.plan]
    if (shown["exit_code"], shown["exit_signal"]) != (code, number):
        yield f"it exited with {shown['exit_code']}, {shown['exit_signal']}"


def _lost_for_a_reason(story: Story, faults: Sequence[Fault]) -> bool:
    """Whether its worker or PostgreSQL was away while it lived."""
    return bool(_suspects(story, faults))


def _suspects(story: Story, faults: Sequence[Fault]) -> list[Fault]:
    """Return what may have cost a session its worker."""
    shown = story.shown or {}
    whom = ("one", "two", "postgres") if story.attempts > 1 else (shown["worker"], "postgres")
    return [
        fault
        for fault in faults
        if fault.whom in whom
        and fault.began <= shown["terminated_at"] + SLACK_SECONDS
        and fault.ended >= shown["created_at"] - AFTER_SECONDS
    ]


# Output.


def _output(story: Story) -> Iterator[str]:
    kept = assigned(story)
    for number, (run, piece) in enumerate(kept, 1):
        lost = story.is_lost or number < len(kept)
        if (difference := difference_of(piece, run.said)) is not None:
            yield f"the output of run {number} is not what was printed: {difference}"
        elif len(piece) < run.done and not lost:
            yield f"{run.done - len(piece)} of {run.done} bytes printed are missing at the end"
    if (more := len(story.output) - sum(len(piece) for _, piece in kept)) > 0:
        yield f"{more} bytes of output that no run printed"
    if (story.shown or {})["output_bytes"] != len(story.output):
        yield f"output_bytes is {(story.shown or {})['output_bytes']}, there are {len(story.output)}"


def difference_of(got: bytes, said: bytes) -> str | None:
    """Say where `got` stops being a beginning of `said`; None if it is one."""
    if said.startswith(got):
        return None
    low, high = 0, min(len(got), len(said))
    while low < high:  # the first byte that differs, by halves
        middle = (low + high + 1) // 2
        low, high = (middle, high) if got[:middle] == said[:middle] else (low, middle - 1)
    line = said.count(b"\n", 0, low)
    rest = got[low : low + SHOWN_BYTES]
    if not said[low:]:
        kind = "more than was printed"
    elif rest and len(rest) == SHOWN_BYTES and rest in said[low:]:
        kind = f"a hole of {said.index(rest, low) - low} bytes"
    elif rest and rest in said[:low] and len(rest) == SHOWN_BYTES:
        kind = f"a repeat from byte {said.rindex(rest, 0, low)}"
    else:
        kind = "something else"
    return f"{kind} at byte {low}, in line {line}: {rest!r} instead of {said[low : low + SHOWN_BYTES]!r}"


def _reader(story: Story, seen: Seen, faults: Sequence[Fault]) -> Iterator[str]:
    who = f"reader {seen.name} ({seen.connections} connections)"
    content = bytes(seen.content)
    if _forgotten(story, faults) and not story.output.startswith(content):
        # What only Redis had went with it, as the worker was lost: the one loss a reader can see. It must be told the end all
        # the same, or that its position is not there any more.
        if seen.end is None and not seen.faults:
            yield f"{who} saw more than is kept, and was never told the end"
        return
    for fault in seen.faults:
        yield f"{who}: {fault}"
    if seen.gaps and not _forgotten(story, faults):
        yield f"{who} was told of gaps ({', '.join(seen.gaps)}), though Redis had forgotten nothing"
    if (difference := difference_of(content, story.output)) is not None:
        yield f"{who} got what is not the output: {difference}"
    if seen.faults:
        return
    if seen.end is None:
        yield f"{who} never saw the end, it stands at entry {seen.last_id}, byte {len(content)}"
        return
    yield from _told(story, seen, who)


def _told(story: Story, seen: Seen, who: str) -> Iterator[str]:
    """Compare what a reader was told of the end with what it got, and with what is shown."""
    assert seen.end is not None
    if seen.restarts != story.readers[-1].restarts or len(seen.restarts) != story.attempts - 1:
        yield f"{who} saw it begin again at {seen.restarts}, in {story.attempts} attempts"
    told = (seen.end["output_bytes"], seen.end["output_sha256"])
    if told != (len(seen.content), hashlib.sha256(seen.content).hexdigest()):
        yield f"{who} got {len(seen.content)} bytes, `terminated` says {told[0]}, or their sha256 differs"
    for member in ("status", "reason", "exit_code", "exit_signal"):
        if seen.end[member] != (story.shown or {})[member]:
            yield f"{who} was told {member} {seen.end[member]}, shown is {(story.shown or {})[member]}"


def _forgotten(story: Story, faults: Sequence[Fault]) -> bool:
    """Whether Redis lost what it had between the loss of this session's worker, or just before, and the session's end."""
    suspects = _suspects(story, faults)
    if not suspects or not (story.is_lost or story.attempts > 1):
        return False
    since = min(fault.began for fault in suspects) - STORED_SECONDS
    until = (story.shown or {})["terminated_at"] + SLACK_SECONDS
    return any(fault.what in EMPTYING and fault.ended >= since and fault.began <= until for fault in faults)


EMPTYING: Final = frozenset({"flush", "kill and empty"})


def _glances(story: Story, faults: Sequence[Fault]) -> Iterator[str]:
    """What was once shown stays: output only grows."""
    if _forgotten(story, faults):
        return
    for glance in story.glances:
        if (difference := difference_of(glance.content, story.output)) is not None:
            yield f"{len(glance.content)} bytes of output were others once: {difference}"


# Inputs.


def _inputs(story: Story) -> Iterator[str]:
    inputs = [row for row in story.rows if row.kind == "input"]
    heard = [text for run in story.runs for text in run.heard]
    yield from _rows_are_what_was_sent(story, inputs)
    position = 0
    arrived: set[int] = set()
    for text in heard:
        where = next((index for index in range(position, len(inputs)) if inputs[index].text == text), None)
        if where is None:
            yield f"it got {text!r} twice, out of order, or without its having been sent"
            return
        arrived.add(where)
        position = where + 1
    for index, row in enumerate(inputs):
        yield from _row(story, row, arrived=index in arrived, passed=index < position)


def _row(story: Story, row: Row, *, arrived: bool, passed: bool) -> Iterator[str]:
    """Judge what is said of one input. `passed`: a later one arrived."""
    unsure = story.is_lost or story.attempts > 1
    if row.state == "unknown" and unsure:
        return
    if arrived and row.state != "written":
        yield f"input {row.input_seq} arrived and is called {row.state}"
    elif not arrived and row.state not in ("written", "failed"):
        yield f"input {row.input_seq} is {row.state} after the end"
    elif not arrived and passed and story.attempts == 1:
        yield f"input {row.input_seq} ({row.state}) was left out"
    elif not arrived and row.state == "written" and not _may_have_gone_unread(story):
        yield f"input {row.input_seq} is called written and never arrived"


def _rows_are_what_was_sent(story: Story, inputs: Sequence[Row]) -> Iterator[str]:
    """Every accepted input is there under its number, no refused one is, and their order is that of sending."""
    by_seq = {row.input_seq: row.text for row in inputs}
    for sent in story.sent:
        if sent.outcome == "accepted" and by_seq.get(sent.input_seq or 0) != sent.text:
            yield f"input {sent.input_seq} was accepted as {sent.text!r}, kept is {by_seq.get(sent.input_seq or 0)!r}"
    sendable = [sent.text for sent in story.sent if sent.outcome != "refused"]
    position = 0
    for row in inputs:
        if row.text not in sendable[position:]:
            yield f"input {row.input_seq} {row.text!r} was not sent, or was kept twice, or out of order"
            return
        position = sendable.index(row.text, position) + 1


def _may_have_gone_unread(story: Story) -> bool:
    """Whether the program may have ended before it read what its pipe held: any but one that reads to the end of input."""
    return story.attempts > 1 or story.how[1] != "exited" or not story.runs or not story.runs[-1].eof
