"""Pages of a listing: a cursor says behind which row the next one begins, and a Link header where it is.

A cursor is the row's id with a few bytes that tell it from garbage. It needs no secret: it is a place in what the key may see
anyway, and stays good while rows come and go.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode
from uuid import UUID

from flask import request
from pydantic import BeforeValidator, WithJsonSchema

CHECK_BYTES: Final = 4
PARAMETER: Final = "cursor"


def cursor_of(row_id: UUID) -> str:
    """Return the cursor behind a row."""
    return base64.urlsafe_b64encode(row_id.bytes + _check(row_id.bytes)).decode().rstrip("=")


def row_of(cursor: Any) -> UUID:
    """Return the row a cursor stands behind. Raises ValueError for what was never one of ours."""
    try:
        packed = base64.b64decode(f"{cursor}=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        packed = b""
    if len(packed) != 16 + CHECK_BYTES or packed[16:] != _check(packed[:16]):
        raise ValueError("must be one that a Link header gave")
    return UUID(bytes=packed[:16])


def next_page(last_id: UUID) -> dict[str, str]:
    """Return the header that says where the page behind this row is."""
    kept = [(name, value) for name, value in request.args.items(multi=True) if name != PARAMETER]
    address = f"{quote(request.root_path + request.path)}?{urlencode([*kept, (PARAMETER, cursor_of(last_id))])}"
    return {"Link": f'<{address}>; rel="next"'}


def _check(packed: bytes) -> bytes:
    return hashlib.sha256(b"cursor" + packed).digest()[:CHECK_BYTES]


Cursor = Annotated[
    UUID,
    BeforeValidator(row_of),
    WithJsonSchema({"type": "string", "description": "From the Link of the page before."}),
]
