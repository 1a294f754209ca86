"""An answer that is JSON already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response

if TYPE_CHECKING:
    from collections.abc import Mapping
    from wsgiref.types import WSGIEnvironment

    from werkzeug.datastructures import Headers


class JsonAnswer(Response):
    """Text of known length. Its headers are ours, and ASCII: nothing has to be made of them for the wire."""

    def __init__(self, text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text, status, headers, mimetype="application/json")

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:  # noqa: ARG002  (werkzeug's signature)
        """Return the headers as they are: werkzeug would look for URLs to be mended and lengths to be found out."""
        return self.headers
