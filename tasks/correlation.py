"""Whose request a task is about: said in every line that is written in the task, ours and libraries'."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import structlog
from celery import signals

from core.tracing import HEADERS

if TYPE_CHECKING:
    from celery import Task

LONGEST: Final = 128
"""Characters of a request's id; the web tier takes no longer one."""


_trace: ContextVar[dict[str, str]] = ContextVar("trace")


def connect() -> None:
    """Begin to bind."""
    signals.task_prerun.connect(_bind, weak=False)


def current() -> str | None:
    """Return the id of the request that this task was sent for."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return None if request_id is None else str(request_id)


def trace() -> dict[str, str]:
    """Return the headers that tell of the span that this task was sent in."""
    return _trace.get({})


def _bind(task_id: str, task: Task[Any, Any], **_: object) -> None:
    """Bind what the message says. Each task has a greenlet of its own: nothing is left to be unbound."""
    bound = {"task": task.name, "task_id": task_id}
    if isinstance(request_id := getattr(task.request, "request_id", None), str):
        bound["request_id"] = request_id[:LONGEST]
    structlog.contextvars.bind_contextvars(**bound)
    carried = {name: getattr(task.request, name, None) for name in HEADERS}
    _trace.set({name: value for name, value in carried.items() if isinstance(value, str)})
