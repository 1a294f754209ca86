"""The blueprint of /api/v1, and what stands before each of its routes."""

from __future__ import annotations

from flask import Blueprint

from app.auth import refuse_keys_in_query

blueprint = Blueprint("api", __name__)
blueprint.before_request(refuse_keys_in_query)
