"""What a client may choose for a session of Claude Code, and what the operator lets be chosen. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Collection

    from core.settings import Settings

MODES: Final = ("manual", "acceptEdits", "plan", "dontAsk", "bypassPermissions")
USUAL_MODES: Final = ("manual", "acceptEdits", "plan", "dontAsk")
"""Those an operator need not allow by name: in the last one of MODES every tool runs unasked."""

UNSOCIABLE_TOOLS: Final = ("ListAgents", "SendMessage", "CronCreate", "ScheduleWakeup")
"""By the first two sessions of one configuration directory see each other; by the others they begin turns of themselves."""

Model = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,127}$")]
# A tool, or a rule for one: `Read`, `Bash(git status *)`. The program's option separates them by commas.
Rule = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}(\([^(),\x00-\x1f]{1,500}\))?$")]
Rules = Annotated[tuple[Rule, ...], Field(max_length=100)]


class ClaudeOptions(BaseModel):
    """The member `program_options` of a session of program `claude`. What is left out is the operator's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model | None = None
    permission_mode: Literal["manual", "acceptEdits", "plan", "dontAsk", "bypassPermissions"] | None = None
    allowed_tools: Rules = ()
    """Used without a question."""
    disallowed_tools: Rules = ()
    max_turns: Annotated[int, Field(ge=1, le=10_000)] | None = None
    max_budget_usd: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] | None = None
    append_system_prompt: Annotated[str, Field(max_length=100_000, pattern=r"^[^\x00]*$")] | None = None
    request_timeout_seconds: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = None
    """After this a question that nobody answered is denied. None: it waits."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the operator says. Empty: any. None: no limit."""

    models: Collection[str] = ()
    model: str | None = None
    modes: Collection[str] = USUAL_MODES
    mode: str = "manual"
    max_turns: int | None = None
    max_budget_usd: float | None = None
    disallowed_tools: Collection[str] = UNSOCIABLE_TOOLS


def allowed(settings: Settings) -> Allowed:
    """Return what this installation allows."""
    return Allowed(
        models=settings.claude_models,
        model=settings.claude_model,
        modes=settings.claude_permission_modes,
        mode=settings.claude_permission_mode,
        max_turns=settings.claude_max_turns,
        max_budget_usd=settings.claude_max_budget_usd,
        disallowed_tools=settings.claude_disallowed_tools,
    )


def faults(options: ClaudeOptions, allowed: Allowed) -> list[dict[str, Any]]:
    """Return what of a client's choice the operator does not allow, as a request's faults."""
    found = []
    if options.model is not None and allowed.models and options.model not in allowed.models:
        found.append(_fault("model", f"must be one of {', '.join(sorted(allowed.models))}"))
    if options.permission_mode is not None and options.permission_mode not in allowed.modes:
        found.append(_fault("permission_mode", f"must be one of {', '.join(allowed.modes)}"))
    for name in ("max_turns", "max_budget_usd"):
        wanted, most = getattr(options, name), getattr(allowed, name)
        if wanted is not None and most is not None and wanted > most:
            found.append(_fault(name, f"must be at most {most:g}"))
    return found


def _fault(name: str, message: str) -> dict[str, Any]:
    return {"loc": ["program_options", name], "msg": message, "type": "not_allowed"}
