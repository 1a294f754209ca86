"""What sessions of programs that converse may ask for besides: options of the program, another session's conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.bodies import validated
from core.claude_options import ClaudeOptions, allowed, faults
from core.errors import NoConversation, ValidationFailed
from core.programs import CONVERSATIONS
from models import sessions

if TYPE_CHECKING:
    from uuid import UUID

    from core.settings import Settings
    from models.database import Transaction
    from models.tables import Session


def checked_options(program: str, options: dict[str, Any] | None, settings: Settings) -> dict[str, Any] | None:
    """Return `program_options` as they are kept. Raises ValidationFailed, naming what is wrong or not allowed here."""
    if program not in CONVERSATIONS:
        if options is not None:
            raise refused("program_options", f"the program {program} has no options")
        return None
    if options is None:
        return None
    try:
        chosen = validated(ClaudeOptions, options)
    except ValidationFailed as fault:
        found = [{**each, "loc": ["program_options", *each["loc"]]} for each in fault.errors]
        raise ValidationFailed(errors=found) from None
    if not_allowed := faults(chosen, allowed(settings)):
        raise ValidationFailed(errors=not_allowed)
    return chosen.model_dump(mode="json", exclude_unset=True)


def refused(member: str, why: str) -> ValidationFailed:
    """Return the error that a member of a body is wrong in itself."""
    return ValidationFailed(errors=[{"loc": [member], "msg": why, "type": "value_error"}])


def converses(session: Session) -> None:
    """Raise unless a session has a conversation that can be gone on with."""
    if session.program not in CONVERSATIONS or not (session.program_state or {}).get("conversation_id"):
        raise NoConversation


def branched(tx: Transaction, session_id: UUID, owner: str | None) -> Session:
    """Return a session whose conversation is to be branched. Raises SessionNotFound, NoConversation."""
    session = sessions.visible(tx, session_id, owner)
    converses(session)
    return session
