"""Headers that every answer carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flask import Flask, Response

ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # Answers are one tenant's; no cache between us and it may keep them.
    "Cache-Control": "no-store",
}
PAIRS: Final = [(name.lower(), (name, value)) for name, value in ALWAYS.items()]


def install(app: Flask) -> None:
    """Add what an answer does not say by itself."""

    @app.after_request
    def add(response: Response) -> Response:
        said = {name.lower() for name in response.headers.keys()}  # noqa: SIM118  (iterating yields pairs)
        response.headers.extend([pair for lower, pair in PAIRS if lower not in said])
        return response
