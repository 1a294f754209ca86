"""What Flask's `request` and `g` stand for. Each use of those looks it up anew; what runs at every request looks once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import flask

if TYPE_CHECKING:
    from flask import Request
    from flask.ctx import _AppCtxGlobals as Notes

_request: Final[Any] = flask.request
_g: Final[Any] = flask.g


def this_request() -> Request:
    """Return the request itself."""
    return cast("Request", _request._get_current_object())  # noqa: SLF001  (werkzeug's documented name)


def these_notes() -> Notes:
    """Return what `g` stands for."""
    return cast("Notes", _g._get_current_object())  # noqa: SLF001  (as above)
