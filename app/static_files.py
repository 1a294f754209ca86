"""Files for browsers, to anybody: no key is asked for, and nothing in them is anybody's."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flask import Blueprint, send_from_directory

if TYPE_CHECKING:
    from flask import Response

FOLDER: Final = Path(__file__).parent / "static"
TYPES: Final = {".js": "text/javascript", ".mjs": "text/javascript"}
"""What the system's own list may call otherwise; with `nosniff` browsers run no module under another name."""

blueprint = Blueprint("static_files", __name__)


@blueprint.get("/static/<path:name>")
def show_file(name: str) -> Response:
    """Send a file. Browsers keep it and ask each time whether it is still the same: 304."""
    kind = TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    response = send_from_directory(FOLDER, name, mimetype=kind)
    response.headers["Cache-Control"] = "no-cache"
    return response
