"""Which web pages may ask here. Programs send no Origin; a browser does, and no page can change it."""

from __future__ import annotations

from flask import request

from app.web import current_web
from core.errors import OriginNotAllowed


def refuse_other_origins() -> None:
    """Raise OriginNotAllowed for a page of an origin that is not in CORS_ORIGINS."""
    origin = request.headers.get("Origin")
    allowed = current_web().settings.cors_origins
    if origin is not None and origin not in allowed and "*" not in allowed:
        raise OriginNotAllowed
