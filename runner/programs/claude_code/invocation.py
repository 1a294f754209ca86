"""How Claude Code is started: its command line and its environment, from what operator and client chose. Pure.

The line was tried with version 2.1.330. Values follow their flags behind `=`: some flags take an optional value, and one that
begins with a dash would be read as the next flag. Settings of the workspace are not read: hooks in them would run unasked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from uuid import UUID

    from core.claude_options import Allowed, ClaudeOptions

FIXED: Final = (
    "-p",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--verbose",  # the line before does not go without
    "--include-partial-messages",
    "--replay-user-messages",
    "--permission-prompt-tool=stdio",
    "--setting-sources=",
    "--strict-mcp-config",
)
QUIET: Final = {
    "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}


@dataclass(frozen=True, slots=True)
class Account:
    """Where the model is, and on whose account. The program's tools can read the key: give it one of a gateway's."""

    api_key: str | None = field(repr=False)
    base_url: str | None = None
    max_retries: int = 4


@dataclass(frozen=True, slots=True)
class Beginning:
    """Which conversation: a new one under an id of ours, one that is gone on with, or a branch of one."""

    conversation_id: UUID
    resume: UUID | None = None

    def flags(self) -> list[str]:
        """Return them as flags."""
        if self.resume is None:
            return [f"--session-id={self.conversation_id}"]
        if self.resume == self.conversation_id:
            return [f"--resume={self.resume}"]
        return [f"--resume={self.resume}", "--fork-session", f"--session-id={self.conversation_id}"]


def command_line(
    program: Path, beginning: Beginning, options: ClaudeOptions, allowed: Allowed, mcp_config: Path | None = None
) -> tuple[str, ...]:
    """Return the argv."""
    model = options.model or allowed.model
    turns = options.max_turns or allowed.max_turns
    budget = options.max_budget_usd or allowed.max_budget_usd
    denied = [*allowed.disallowed_tools, *options.disallowed_tools]
    chosen = {
        "--permission-mode": options.permission_mode or allowed.mode,
        "--model": model,
        "--max-turns": None if turns is None else str(turns),
        "--max-budget-usd": None if budget is None else f"{budget:g}",
        "--append-system-prompt": options.append_system_prompt,
        "--allowedTools": ",".join(options.allowed_tools) or None,
        "--disallowedTools": ",".join(denied) or None,
        "--mcp-config": None if mcp_config is None else str(mcp_config),
    }
    flags = [f"{flag}={value}" for flag, value in chosen.items() if value is not None]
    return (str(program), *FIXED, *beginning.flags(), *flags)


def variables(account: Account, config: Path) -> Mapping[str, str]:
    """Return what it gets beside what every session's process gets. `config`: where it keeps its conversations."""
    found = {**QUIET, "CLAUDE_CONFIG_DIR": str(config), "CLAUDE_CODE_MAX_RETRIES": str(account.max_retries)}
    if account.api_key is not None:
        found["ANTHROPIC_API_KEY"] = account.api_key
    if account.base_url is not None:
        found["ANTHROPIC_BASE_URL"] = account.base_url
    return found


def transcript(config: Path, directory: Path, conversation_id: UUID) -> Path:
    """Return where the program writes a conversation held in a directory; where nothing is, nothing can be gone on with."""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in str(directory))
    return config / "projects" / name / f"{conversation_id}.jsonl"
