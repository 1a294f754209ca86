"""The API's description: for programs, and as a page that works offline and asks nobody else. No key is needed for either."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import orjson
from flask import Blueprint, Response, current_app, request, url_for

from app.limits import not_counted
from app.openapi.document import document

if TYPE_CHECKING:
    from flask import Flask

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Jelmore API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{style}">
</head>
<body>
<main id="docs" data-document="{document}"></main>
<noscript>This page needs JavaScript. Programs read <a href="{document}">the document</a>.</noscript>
<script src="{bundle}"></script>
<script src="{start}"></script>
</body>
</html>
"""

DOCUMENT: Final = "jelmore.openapi"

blueprint = Blueprint("docs", __name__)


@blueprint.get("/openapi.json")
@not_counted
def show_document() -> Response:
    """Show the OpenAPI document."""
    text = _document(current_app)
    response = Response(text, mimetype="application/json")
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(hashlib.sha256(text).hexdigest()[:32])
    response.make_conditional(request)
    return response


@blueprint.get("/docs")
@not_counted
def show_page() -> Response:
    """Show the page."""
    names = {"style": "swagger-ui.css", "bundle": "swagger-ui-bundle.js", "start": "start.js"}
    links = {part: url_for("static_files.show_file", name=f"swagger-ui/{name}") for part, name in names.items()}
    page = PAGE.format(document=url_for("docs.show_document"), **links)
    response = Response(page, mimetype="text/html")
    response.headers["Content-Security-Policy"] = POLICY
    return response


def _document(app: Flask) -> bytes:
    """Return the document, made once."""
    made: bytes | None = app.extensions.get(DOCUMENT)
    if made is None:
        made = app.extensions[DOCUMENT] = orjson.dumps(document(app))
    return made
