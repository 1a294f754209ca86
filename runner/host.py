"""All sessions of one worker: starting them, stopping them, their clock, writing their end.

The session belongs to the host; the task that started it only waits. What the host needs is handed to it in a `World`;
one session's pipes and decisions stand in `runner.live`, mailboxes in `runner.mailroom`, the lease in `runner.lease`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gevent
import structlog
from gevent.event import Event

from core import metrics
from core.errors import DatabaseUnavailable, SpawnFailed
from core.vital import spawn_vital
from models import claims, sessions
from models.events import Origin
from models.lifecycle import Reason
from runner import clockwork, finishing, launch, marks, workspaces
from runner.affairs import Affairs
from runner.chores import Chores
from runner.keeper_link import Ears, KeeperLink, boottime
from runner.live import Identity, LiveSession
from runner.mailroom import Mailroom
from runner.programs.catalogue import driver_of
from runner.statuses import Statuses
from runner.supervision import Exit, Finish, Stop
from runner.sweep import sweep
from streams import stored
from streams.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from models.inputs import Delivery
    from models.lifecycle import Status
    from models.tables import Session
    from runner.world import World

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
CLAIM_PATIENCE_SECONDS = 10.0
"""A claim whose reply was lost is repeated that long; then the next renewal finds what became of it."""


class Host:
    """Holds this worker's live sessions."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = world.clock
        self.sessions: dict[UUID, LiveSession] = {}
        self.starting: set[UUID] = set()
        self.mailroom = Mailroom(world, self.sessions)
        self.chores = Chores(world.database, self.fenced)
        self.statuses = Statuses(world, self.chores.are_done)
        self.affairs = Affairs(self.chores, world.clock)
        self.idle_after_seconds = world.settings.session_idle_after_seconds
        self.writer = Writer(world.appender, world.database, world.settings, self.fenced, self._room)
        self._by_tag: dict[int, LiveSession] = {}
        self.keeper = self._start_keeper()
        self._over: dict[UUID, Event] = {}
        self._counter = 0

    def open(self) -> None:
        """Start the background greenlets."""
        self.mailroom.open()
        self.statuses.open()
        self.writer.start()
        spawn_vital("sessions' clock", clockwork.keep_ticking, self.sessions, self.clock)

    # Starting.

    def start(self, session_id: UUID, delivery: str) -> Event | None:
        """Claim a session and run its process; return what is set at its end, or None if it is not ours to run.

        Blocks the calling greenlet. Any number of deliveries of one start task run one process.
        """
        if session_id in self.sessions or session_id in self.starting:
            return None
        self.starting.add(session_id)
        try:
            claimed = self._claim(session_id, delivery)
            return self._run(*claimed) if claimed else None
        finally:
            self.starting.discard(session_id)

    def _claim(self, session_id: UUID, delivery: str) -> tuple[Session, Session | None] | None:
        """Return what was claimed, and the session whose conversation it goes on with."""
        patience = self.clock.now() + CLAIM_PATIENCE_SECONDS
        while True:
            try:
                with self.world.database.transaction() as tx:
                    session = claims.claim(tx, session_id, self.world.incarnation, delivery)
                    return None if session is None else (session, sessions.inherit(tx, session))
            except DatabaseUnavailable:
                if self.clock.now() > patience:
                    raise
                gevent.sleep(RETRY_SECONDS)

    def _run(self, session: Session, origin: Session | None) -> Event:
        live = self._admit(session)
        over = self._over[live.id]
        if session.attempt > 1:  # what a dead worker of this machine left of it must not go on beside us
            with suppress(DatabaseUnavailable):
                sweep(self.world)
        try:
            with metrics.SPAWN_SECONDS.time():
                facts = launch.launch(self.keeper, live, session, self.world.settings, origin)
        except SpawnFailed as fault:
            log.warning("session could not be started", session_id=str(live.id), error=fault.detail)
            live.spawn_failed(fault.detail)
            return over
        self._note_started(live, facts).join()
        self.look([live.id])
        return over

    def _admit(self, session: Session) -> LiveSession:
        self._counter = (self._counter + 1) & 0xFFFF
        tag = (self.world.tag << 16) | self._counter
        origin = Origin(f"worker:{session.worker_name}", session.request_id)
        journal = stored.journal_of(self.world.database, session)
        live = LiveSession(
            Identity(session.id, session.fence, tag, origin, session.priority),
            self.world.rules_of(session),
            journal,
            self,
        )
        live.driver = driver_of(live, session, self.world.settings)
        self.sessions[live.id] = self._by_tag[tag] = live
        self._over[live.id] = Event()
        self.writer.open(journal)
        metrics.SESSIONS_STARTED.labels(session.program).inc()
        metrics.SESSIONS_LIVE.set(len(self.sessions))
        if session.attempt == 1 and session.claimed_at is not None:
            metrics.QUEUE_SECONDS.observe(max(0.0, (session.claimed_at - session.created_at).total_seconds()))
        return live

    def _note_started(self, live: LiveSession, facts: claims.Started) -> gevent.Greenlet[Any]:
        """Write that it runs. A database that is away does not stop the process; the lease decides how long."""
        fence, origin, at = live.identity.fence, live.identity.origin, self.clock.at()
        log.info("session started", session_id=str(live.id), pid=facts.pid, request_id=origin.request_id)
        return self.chores.add(live, lambda tx: claims.started(tx, live.id, fence, facts, origin, at=at))

    # What others want.

    def knows(self, session_id: UUID) -> bool:
        """Whether this process has the session, or is about to."""
        return session_id in self.sessions or session_id in self.starting

    def look(self, session_ids: Sequence[UUID]) -> None:
        """Look into these sessions' mailboxes."""
        self.mailroom.ring(session_ids)

    def stop(self, session_id: UUID, wish: Stop) -> None:
        """Ask a session of ours to end."""
        if live := self.sessions.get(session_id):
            live.stop(wish)

    def stop_all(self, wish: Stop) -> None:
        """Ask every session to end."""
        for live in list(self.sessions.values()):
            live.stop(wish)

    def hurry_all(self) -> None:
        """The grace is over for everybody."""
        for live in list(self.sessions.values()):
            live.hurry()

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until every session's end is written; return whether it is."""
        deadline = self.clock.now() + seconds
        while self.sessions and self.clock.now() < deadline:
            gevent.sleep(0.05)
        return not self.sessions

    def fenced(self, session_id: UUID) -> None:
        """The session is not ours any more: kill it, write nothing."""
        live = self.sessions.get(session_id)
        if live is None or live.abandoned:
            return
        log.error("session was taken from this worker; killing it", session_id=str(session_id))
        metrics.SESSIONS_FENCED.inc()
        live.abandoned = True
        self.keeper.end(live.identity.tag)

    # Surroundings of a live session: called from the hub, never blocking.

    def signal(self, tag: int, number: int, *, group: int | None = None) -> None:
        """Send a signal to a process group of a session, by default its main process's."""
        if group is None or marks.tag_of(group) != tag:
            self.keeper.signal(tag, number)
            return
        with suppress(OSError):  # gone meanwhile
            os.killpg(group, number)

    def signal_all(self, tag: int, number: int) -> None:
        """Send a signal to all processes of a session."""
        self.keeper.signal(tag, number, whole=True)

    def end_all(self, tag: int) -> None:
        """Kill all processes of a session."""
        self.keeper.end(tag)

    def replace_keeper(self) -> None:
        """The keeper is stuck: its death hands everything to the worker, which sweeps."""
        log.error("the keeper does not answer; replacing it", keeper=self.keeper.pid)
        self.keeper.kill()

    def news(self, live: LiveSession) -> None:
        """There is something new in a journal."""
        self.writer.news(live.id)

    def has_room(self, session_id: UUID) -> bool:
        """Whether more output of a session may be read."""
        return self.writer.room(session_id)

    def delivered(self, delivery: Delivery) -> None:
        """Note what became of an input."""
        self.mailroom.report(delivery)

    def status_changed(self, live: LiveSession, status: Status) -> None:
        """Write what a session is doing into its row."""
        self.statuses.note(live, status)

    def finish(self, live: LiveSession, how: Finish) -> None:
        """Write the end of a session; it may take as long as PostgreSQL is away."""
        spawn_vital(f"end of {live.id}", self._finish, live, how)

    def _finish(self, live: LiveSession, how: Finish) -> None:
        self.chores.wait(live.id)
        self.writer.drain_for_end(live.id)
        reports = self.mailroom.take_reports(live.id)
        hands_over = live.decisions.rules.hands_over and how.reason is Reason.WORKER_SHUTDOWN
        write = finishing.hand_over if hands_over else finishing.write_end
        ended = self.chores.insist(live, lambda tx: write(tx, live, how, reports, at=self.clock.at()))
        if ended:
            finishing.tell(self.world.appender, live, ended)
        if hands_over:
            self.world.ask_for_start(live.id, live.identity.priority)
        self._forget(live)

    def _forget(self, live: LiveSession) -> None:
        """Let go of a session that is over, or not ours any more."""
        if self.sessions.get(live.id) is not live:
            return
        live.close()
        workspaces.release(self.world.settings, live.id)
        self.chores.forget(live.id)
        self.statuses.forget(live.id)
        self.writer.close(live.id)
        self.sessions.pop(live.id, None)
        metrics.SESSIONS_LIVE.set(len(self.sessions))
        self._by_tag.pop(live.identity.tag, None)
        self._over.pop(live.id).set()

    # The keeper's reports, the writer's, the clock's.

    def _start_keeper(self) -> KeeperLink:
        return KeeperLink.start(
            self.world.tag, Ears(self._on_exit, self._on_empty, self._on_too_many, self._on_keeper_lost)
        )

    def _on_exit(self, tag: int, how: Exit) -> None:
        if live := self._by_tag.get(tag):
            live.exited(how)

    def _on_empty(self, tag: int) -> None:
        live = self._by_tag.get(tag)
        if live is not None and live.abandoned:
            self._forget(live)
        elif live is not None:
            live.emptied()

    def _on_too_many(self, tag: int, count: int) -> None:
        if live := self._by_tag.get(tag):
            live.exceeded(Stop(Reason.PROCESS_LIMIT, f"had {count} processes"))

    def _on_keeper_lost(self) -> None:
        log.error("the keeper died; its sessions end", sessions=len(self.sessions))
        metrics.KEEPERS_LOST.inc()
        before, self.keeper = self.keeper, self._start_keeper()
        # Not only at the next renewal: a worker stopped before it would not be fenced.
        if before.leased_until > boottime():
            self.keeper.lease(before.leased_until)
        for live in list(self.sessions.values()):
            if live.abandoned:
                self._forget(live)
            else:
                live.keeper_lost()

    def _room(self, session_id: UUID) -> None:
        if live := self.sessions.get(session_id):
            live.room()
