"""How a session of Claude Code begins: its program, its account, its directories, and which conversation it is.

A conversation is a file that the program keeps below the session's workspace. Where that is on storage that workers share, any of
them goes on with it; where it is not, only one of the same machine can.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from core.claude_options import ClaudeOptions, allowed
from core.errors import SpawnFailed
from runner.programs.claude_code.invocation import Account, Beginning, command_line, transcript, variables
from runner.programs.claude_code.memory import Memory
from runner.programs.commands import PATH, Command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.settings import Settings
    from models.tables import Session
    from runner.workspaces import Place

NAME: Final = "claude"
CONFIG: Final = ".claude"
"""Where it keeps its own things, in the workspace."""
MOST_BYTES: Final = 256 * 1024 * 1024
"""Of a conversation that is copied."""
CREDENTIALS: Final = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
)
"""Variables of a session's own by which the program finds an account."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a driver must know of its session. `query`: the first words."""

    query: str
    start_seconds: float
    silence_seconds: float
    request_timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The session whose conversation is gone on with, or branched: its id, and the conversation's."""

    session_id: UUID
    conversation_id: UUID


def plan_of(session: Session, settings: Settings) -> Plan:
    """Return what a driver must know."""
    timeout = options_of(session).request_timeout_seconds
    return Plan(session.query, settings.claude_start_seconds, settings.claude_silence_seconds, timeout)


def options_of(session: Session) -> ClaudeOptions:
    """Return what the client chose; checked when it was asked for."""
    return ClaudeOptions.model_validate(session.program_options or {})


def source_of(session: Session | None) -> Source | None:
    """Return where a session's conversation is."""
    conversation_id = Memory.of(session.program_state).conversation_id if session is not None else None
    return None if session is None or conversation_id is None else Source(session.id, UUID(conversation_id))


def usual(settings: Settings) -> Command:
    """Return what holds for every session of it, before it has a place."""
    ask = min(settings.terminate_grace_seconds, settings.worker_drain_seconds / 3)
    return Command((NAME,), ask_seconds=ask, resumable=True, hands_over=True)


def command(session: Session, settings: Settings, place: Place, source: Source | None) -> Command:
    """Return what is executed. Raises SpawnFailed, in words for who asked for the session."""
    account = Account(settings.anthropic_api_key, settings.anthropic_base_url, settings.claude_max_retries)
    if account.api_key is None and not any(session.env.get(name) for name in CREDENTIALS):
        raise SpawnFailed("Claude Code has no account: set ANTHROPIC_API_KEY for the workers, or in the session's env")
    if settings.session_sandbox and not settings.session_sandbox_network:
        raise SpawnFailed("Claude Code cannot reach its model: SESSION_SANDBOX_NETWORK is off")
    config = place.workspace / CONFIG
    beginning = _beginning(session, place, config, source)
    argv = command_line(
        find_program(settings), beginning, options_of(session), allowed(settings), settings.claude_mcp_config
    )
    general = usual(settings)
    return Command(
        argv,
        env=variables(account, config),
        ask_seconds=general.ask_seconds,
        resumable=general.resumable,
        hands_over=general.hands_over,
    )


def find_program(settings: Settings) -> Path:
    """Return the executable: CLAUDE_BIN, else the one on the PATH, else the one of the extra `claude`. Raises SpawnFailed."""
    if settings.claude_bin is not None:
        if not os.access(settings.claude_bin, os.X_OK):
            raise SpawnFailed("CLAUDE_BIN is no program that can be executed")
        return settings.claude_bin.absolute()
    if (found := shutil.which(NAME, path=PATH)) is not None:
        return Path(found)
    package = importlib.util.find_spec("claude_agent_sdk")
    for place in (package.submodule_search_locations or ()) if package is not None else ():
        if os.access(bundled := Path(place) / "_bundled" / NAME, os.X_OK):
            return bundled
    raise SpawnFailed("Claude Code is not installed: set CLAUDE_BIN, or install the extra `claude`")


# Which conversation.


def _beginning(session: Session, place: Place, config: Path, source: Source | None) -> Beginning:
    """Return the conversation that is gone on with, or a new one, or the branch of another session's."""
    memory = Memory.of(session.program_state)
    own = UUID(memory.conversation_id) if memory.conversation_id is not None else session.id
    if transcript(config, place.directory, own).is_file():
        return Beginning(own, resume=own)
    if memory.turns or (session.attempt > 1 and memory.query is not None):
        raise SpawnFailed("the conversation is not on this machine: workspaces are not on storage that workers share")
    if session.resumed_from is None and session.fork_of is None:
        return Beginning(session.id)
    if source is None:
        raise SpawnFailed("the session to go on with is gone, or never had a conversation")
    _bring(source, place, config)
    return Beginning(session.id, resume=source.conversation_id)


def _bring(source: Source, place: Place, config: Path) -> None:
    """Copy a conversation from another session's workspace. Raises SpawnFailed."""
    target = transcript(config, place.directory, source.conversation_id)
    made = [config, config / "projects", target.parent]
    try:
        theirs = _open_conversation(place.workspace.parent / str(source.session_id), f"{source.conversation_id}.jsonl")
        with open(theirs, "rb") as kept:  # noqa: PTH123  (a descriptor)
            for directory in made:
                directory.mkdir(mode=0o700, exist_ok=True)
            with target.open("xb") as copy:
                shutil.copyfileobj(kept, copy)
        if place.user is not None:
            for each in (*made, target):
                os.chown(each, place.user.uid, place.user.gid, follow_symlinks=False)
    except OSError as fault:
        why = fault.strerror if fault.errno != errno.ENOENT else "it is not on this machine, or was removed"
        raise SpawnFailed(f"the conversation to go on with cannot be read: {why}") from fault


def _open_conversation(workspace: Path, name: str) -> int:
    """Open a conversation's file, wherever its session had started. What is there its programs could write: no link is followed."""
    projects = _walk(os.open(workspace, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW), (CONFIG, "projects"))
    try:
        for directory in _directories(projects):
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
            except FileNotFoundError:
                continue
            finally:
                os.close(directory)
            facts = os.fstat(descriptor)
            if stat.S_ISREG(facts.st_mode) and facts.st_size <= MOST_BYTES:
                return descriptor
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no file, or too large")
    finally:
        os.close(projects)
    raise FileNotFoundError(errno.ENOENT, "no conversation", name)


def _walk(descriptor: int, names: tuple[str, ...]) -> int:
    for name in names:
        try:
            deeper = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = deeper
    return descriptor


def _directories(descriptor: int) -> Iterator[int]:
    """Yield a descriptor of each directory in one; the caller closes it."""
    with os.scandir(descriptor) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        yield os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
