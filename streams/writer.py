"""Getting all journals of one worker into Redis and PostgreSQL: two greenlets for any number of sessions.

*Appending* takes what gathered during the previous trip to Redis, of every session with news, in one pipeline: no timer, so an
idle session's line leaves at once and a flood coalesces. *Storing* puts every session's stretch into PostgreSQL in one
transaction, once a second or as soon as one has gathered 256 KiB. Neither waits for the other: Redis away, entries are
stored alone; PostgreSQL away, buffers fill, and whoever reads the pipes stops (`room`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import gevent
import structlog
from gevent.event import Event
from gevent.lock import RLock
from redis.exceptions import RedisError

from core import metrics
from core.errors import DatabaseUnavailable
from core.vital import spawn_vital
from models import claims, segments
from models.claims import Progress
from streams.appender import Appender, Batch, Refusal
from streams.entries import aware

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from models.database import Database, Transaction
    from models.segments import Stretch
    from streams.appender import Verdict
    from streams.journal import Journal

log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 0.5


class Limits(Protocol):
    """The part of the settings that is read here: bytes and seconds."""

    @property
    def redis_tail_bytes(self) -> int: ...
    @property
    def redis_tail_budget(self) -> int: ...
    @property
    def unsaved_bytes_per_session(self) -> int: ...
    @property
    def unsaved_bytes_per_worker(self) -> int: ...
    @property
    def segment_interval_seconds(self) -> float: ...
    @property
    def segment_bytes(self) -> int: ...


class Writer:
    """Holds the journals of all live sessions of one worker."""

    def __init__(
        self,
        appender: Appender,
        database: Database,
        limits: Limits,
        on_fenced: Callable[[UUID], None],
        on_room: Callable[[UUID], None],
    ) -> None:
        """Take whom to tell: of a session that is somebody else's now, and of room for output after there was none."""
        self._appender = appender
        self._database = database
        self._limits = limits
        self._on_fenced = on_fenced
        self._on_room = on_room
        self._journals: dict[UUID, Journal] = {}
        self._dirty: set[UUID] = set()
        self._news = Event()
        self._much = Event()
        self._full: set[UUID] = set()
        self._unsaved = 0
        self._storing = RLock()
        """Held while stretches are on their way to PostgreSQL: a journal must not be drained meanwhile."""

    def start(self) -> None:
        """Start both greenlets."""
        spawn_vital("log appending", self._keep_appending)
        spawn_vital("log storing", self._keep_storing)

    # What a live session calls; never blocking.

    def open(self, journal: Journal) -> None:
        """Take care of a journal from here on."""
        self._journals[journal.session_id] = journal

    def close(self, session_id: UUID) -> None:
        """Forget a journal."""
        self._journals.pop(session_id, None)
        self._full.discard(session_id)

    def news(self, session_id: UUID) -> None:
        """There is something new in a journal."""
        self._dirty.add(session_id)
        self._news.set()

    def room(self, session_id: UUID) -> bool:
        """Whether more output of this session may be taken; if not, `on_room` is called when it may again."""
        journal = self._journals.get(session_id)
        if journal is None or self._has_room(journal):
            return True
        self._full.add(session_id)
        self._much.set()
        return False

    def _has_room(self, journal: Journal) -> bool:
        return (
            journal.unsaved_bytes < self._limits.unsaved_bytes_per_session
            and self._unsaved < self._limits.unsaved_bytes_per_worker
        )

    # Redis.

    def _keep_appending(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            dirty, self._dirty = self._dirty, set()
            try:
                self._append([self._journals[each] for each in dirty if each in self._journals])
            except (RedisError, DatabaseUnavailable) as fault:
                metrics.REDIS_ERRORS.labels("append").inc()
                log.debug("log not appended", error=str(fault))
                self._dirty |= dirty
                self._news.set()
                gevent.sleep(RETRY_SECONDS)

    def _append(self, journals: list[Journal]) -> None:
        tail = min(self._limits.redis_tail_bytes, self._limits.redis_tail_budget // max(1, len(self._journals)))
        trip: list[tuple[Journal, Batch]] = []
        for journal in journals:
            journal.form()
            entries, below = journal.to_append(), journal.trim_below(tail)
            if entries or below > journal.trimmed_below:
                batch = Batch(journal.session_id, journal.fence, entries, journal.may_create, below, journal.claim)
                trip.append((journal, batch))
        if not trip:
            return
        with metrics.APPEND_SECONDS.time():
            verdicts = self._appender.append([batch for _, batch in trip])
        for (journal, batch), verdict in zip(trip, verdicts, strict=True):
            self._heed(journal, batch, verdict)

    def _heed(self, journal: Journal, batch: Batch, verdict: Verdict) -> None:
        """Act on what Redis said of one session's batch."""
        if isinstance(verdict, int):
            metrics.ENTRIES.inc(len(batch.entries))
            journal.appended(verdict, trimmed_below=batch.trim_below)
            if journal.unstored_bytes >= self._limits.segment_bytes:
                self._much.set()
            if journal.to_append():
                self.news(journal.session_id)
        elif verdict is Refusal.STALE:
            self._on_fenced(journal.session_id)
        elif verdict is Refusal.UNKNOWN:
            self._reintroduce(journal)
        else:
            raise RedisError(f"an append failed: {verdict}")

    def _reintroduce(self, journal: Journal) -> None:
        """Redis does not know the session: it was emptied, or somebody took it. PostgreSQL knows which."""
        with self._database.transaction() as tx:
            ours = self._is_ours(tx, journal)
        if not ours:
            self._on_fenced(journal.session_id)
            return
        journal.forgotten()
        self.news(journal.session_id)

    # PostgreSQL.

    def _keep_storing(self) -> None:
        while True:
            self._much.wait(timeout=self._limits.segment_interval_seconds)
            self._much.clear()
            try:
                with self._storing, metrics.STORE_SECONDS.time():
                    self._store()
            except DatabaseUnavailable as fault:
                log.warning("segments not stored", error=str(fault.__cause__ or fault))
                gevent.sleep(RETRY_SECONDS)
            self._measure()

    def _store(self) -> None:
        """Store one stretch of every session that has one, and their counters, in one transaction."""
        offered = [(journal, stretch) for journal in list(self._journals.values()) if (stretch := _offer(journal))]
        if not offered:
            return
        with self._database.transaction() as tx:
            taken = segments.store(tx, [stretch for _, stretch in offered])
            claims.save_progress(tx, [_progress(*pair) for pair in offered if pair[0].session_id in taken])
            ours = {stretch.session_id for _, stretch in offered if self._settle(tx, stretch, taken)}
        for journal, stretch in offered:
            if journal.session_id in taken or journal.session_id in ours:
                self._note_stored(journal, stretch)
            else:
                self._on_fenced(journal.session_id)

    def _settle(self, tx: Transaction, stretch: Stretch, taken: set[UUID]) -> bool:
        """Whether a stretch that found another in its way is stored all the same.

        It may be this very one, whose commit's reply was lost. Or it was stored under a claim that a database forgot when
        it lost its last commits: it is nobody's, and gives way.
        """
        journal = self._journals.get(stretch.session_id)
        if journal is None or stretch.session_id in taken or not self._is_ours(tx, journal):
            return False
        if not segments.is_stored(tx, stretch):
            log.error("a segment stood there that nobody holds; it is replaced", session_id=str(stretch.session_id))
            segments.replace(tx, stretch)
        return True

    def _is_ours(self, tx: Transaction, journal: Journal) -> bool:
        """Whether PostgreSQL still says that a session is ours by the claim it was begun with.

        The fence alone does not: a database that lost its last commits gives it out again.
        """
        claim, fence = claims.standing(tx, journal.session_id)
        return (claim, fence) == (journal.claim, journal.fence)

    def _note_stored(self, journal: Journal, stretch: Stretch) -> None:
        metrics.SEGMENTS.inc()
        journal.stored(stretch.last_seq)
        self.news(journal.session_id)  # what is stored may be trimmed
        if journal.unstored_bytes >= self._limits.segment_bytes:
            self._much.set()

    def _measure(self) -> None:
        """Add up what is unsaved, and let those go on who waited for room."""
        self._unsaved = sum(journal.unsaved_bytes for journal in self._journals.values())
        metrics.UNSAVED_BYTES.set(self._unsaved)
        for session_id in list(self._full):
            journal = self._journals.get(session_id)
            if journal is None or self._has_room(journal):
                self._full.discard(session_id)
                self._on_room(session_id)

    # The end.

    def drain_for_end(self, session_id: UUID) -> None:
        """Take a journal out of both greenlets' hands: what it still has unstored is the end transaction's.

        What Redis lacks is offered to it once more, so that readers need not wait for the commit.
        """
        with self._storing:
            journal = self._journals.pop(session_id, None)
            self._full.discard(session_id)
        if journal is None:
            return
        journal.flush_held()
        journal.form()
        entries = journal.to_append(max_bytes=None)
        if entries:
            try:
                self._appender.append(
                    [Batch(session_id, journal.fence, entries, journal.may_create, claim=journal.claim)]
                )
            except RedisError as fault:
                log.debug("last output not appended; readers find it in PostgreSQL", error=str(fault))


def _offer(journal: Journal) -> Stretch | None:
    journal.form()
    return journal.to_store()


def _progress(journal: Journal, stretch: Stretch) -> Progress:
    return Progress(
        journal.session_id, journal.fence, stretch.last_seq, stretch.end_offset, aware(journal.last_output_at_ms or 0)
    )
