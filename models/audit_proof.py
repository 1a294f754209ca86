"""Going over the whole audit chain: is every sealed row still what it was, and is none missing or slipped in?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from models.audit_chain import COLUMNS, START, Link, head, seal_of
from models.tables import AuditAnchor, AuditRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Row

    from models.database import Transaction

READ_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """The first place where the chain does not hold. `audit_id` None: the row itself is missing."""

    why: str
    position: int | None
    audit_id: int | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What was looked at: `rows` that hold, `unsealed` ones so new that they are not in the chain yet, and the chain's end."""

    rows: int
    unsealed: int
    head: Link
    fault: Fault | None = None


class _Broken(Exception):
    def __init__(self, why: str, position: int | None, audit_id: int | None = None) -> None:
        super().__init__(why)
        self.fault = Fault(why, position, audit_id)


def verify(tx: Transaction, outside: Mapping[int, bytes] | None = None) -> Proof:
    """Go over the chain from its first row to its head. `outside`: seals by position, kept where nobody could change them.

    To be the first statement of its transaction: all of it sees one state of the tables, whatever is sealed meanwhile.
    """
    tx.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    walk = _Walk(tx, outside or {})
    fault = None
    try:
        walk.go()
    except _Broken as broken:
        fault = broken.fault
    return Proof(walk.rows, walk.unsealed(), walk.head, fault)


class _Walk:
    """One way along the chain. `late`: the first row with no place in the chain although a later one has one."""

    def __init__(self, tx: Transaction, outside: Mapping[int, bytes]) -> None:
        self._tx = tx
        self.rows = 0
        self.head = head(tx)
        self._anchors = {anchor.position: anchor for anchor in tx.scalars(select(AuditAnchor))}
        self._outside = outside
        self._late = tx.scalar(
            select(func.min(AuditRow.id)).where(
                AuditRow.seal.is_(None), AuditRow.position.is_(None), AuditRow.id <= self.head.audit_id
            )
        )

    def unsealed(self) -> int:
        """Return how many rows wait to be sealed."""
        new = select(func.count()).select_from(AuditRow)
        return self._tx.scalar(new.where(AuditRow.seal.is_(None), AuditRow.id > self.head.audit_id)) or 0

    def go(self) -> None:
        """Raise _Broken at the first row that is not what it should be."""
        before: Link | None = None
        for row in self._sealed():
            before = self._follow(self._start(row.position) if before is None else before, row)
            self.rows += 1
        before = before or self._start(self.head.position + 1)
        if before.position < self.head.position:
            raise _Broken(
                f"rows are missing behind row {before.audit_id}, up to row {self.head.audit_id}", before.position + 1
            )
        self._check_late(self.head.audit_id + 1)
        for position in self._outside.keys() - self._anchors.keys():
            if not self._first <= position <= self.head.position:
                raise _Broken("the anchor given cannot be compared: no row and no anchor of ours is there", position)

    def _sealed(self) -> Iterator[Row[*tuple[Any, ...]]]:
        after = 0
        while True:
            wanted = select(*COLUMNS).where(AuditRow.position > after).order_by(AuditRow.position).limit(READ_AT_ONCE)
            rows = self._tx.execute(wanted).all()
            yield from rows
            if len(rows) < READ_AT_ONCE:
                return
            after = rows[-1].position

    def _start(self, first: int) -> Link:
        """Return what stands before the first row there is: the beginning, or where retention has cut."""
        self._first = first
        anchor = self._anchors.get(first - 1)
        if first == START.position + 1:
            return START
        if anchor is None or not anchor.cut:
            raise _Broken("rows are missing at the beginning, and it was not retention that removed them", first - 1)
        self._compare(anchor.position, anchor.audit_id, anchor.seal)
        return Link(anchor.position, anchor.audit_id, anchor.seal)

    def _follow(self, before: Link, row: Row[*tuple[Any, ...]]) -> Link:
        self._check_late(row.id)
        if row.position != before.position + 1:
            between = f"between rows {before.audit_id} and {row.id}"
            raise _Broken(f"a row is missing {between}", before.position + 1)
        if row.position > self.head.position:
            raise _Broken("the row stands behind the end of the chain: nobody sealed it", row.position, row.id)
        if row.seal is None or seal_of(before.seal, row.position, row) != bytes(row.seal):
            raise _Broken("the row is not the one that was sealed", row.position, row.id)
        self._compare(row.position, row.id, bytes(row.seal))
        return Link(row.position, row.id, bytes(row.seal))

    def _check_late(self, audit_id: int) -> None:
        if self._late is not None and self._late < audit_id:
            raise _Broken(
                "the row has no seal, though later ones have: it was slipped in, or unsealed", None, self._late
            )

    def _compare(self, position: int, audit_id: int, seal: bytes) -> None:
        """Compare a point of the chain with what was noted of it."""
        anchor = self._anchors.get(position)
        noted = [] if anchor is None else [bytes(anchor.seal)]
        noted += [self._outside[position]] if position in self._outside else []
        if any(each != seal for each in noted):
            raise _Broken(
                "the row, or one before it, is not the one that was sealed: its anchor differs", position, audit_id
            )
