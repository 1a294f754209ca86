"""Reading query parameters. Unknown ones are ignored; known ones are right or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, get_origin
from urllib.parse import unquote_to_bytes, urlencode

from flask import request
from pydantic import BaseModel, ConfigDict

from app.bodies import validated
from app.json_input import refuse_unstorable
from core.errors import InvalidPosition, ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Mapping


class Query(BaseModel):
    """A set of query parameters. A tuple takes a parameter that may stand several times."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


Model = TypeVar("Model", bound=Query)
QUOTED: Final = "%"
"""How bytes that are not UTF-8 stay where werkzeug has read the rest."""


def read_query(model: type[Model]) -> Model:
    """Return the request's parameters as a model. Raises ValidationFailed."""
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    given = {name: _given(name, annotation) for name, annotation in fields.items() if name in request.args}
    refuse_unreadable(given)
    refuse_unstorable(given)
    return validated(model, given)


def refuse_unreadable(given: Mapping[str, str | list[str]]) -> None:
    """Raise ValidationFailed for values that are not UTF-8: they look like others, which might match something."""
    doubtful = [name for name, value in given.items() if any(QUOTED in text for text in value)]
    if not doubtful:
        return
    try:
        unquote_to_bytes(request.query_string).decode()
    except UnicodeDecodeError:
        faults = [{"loc": [name], "msg": "must be UTF-8", "type": "unstorable_text"} for name in doubtful]
        raise ValidationFailed(errors=faults) from None


def read_positions(model: type[Model]) -> Model:
    """Return parameters that are places in a log. Raises InvalidPosition."""
    try:
        return read_query(model)
    except ValidationFailed as refused:
        fault = refused.errors[0]
        raise InvalidPosition(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from None


def next_page(cursor: str) -> dict[str, str]:
    """Return the header that leads to the next page of a listing: this request with another cursor."""
    args = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
    return {"Link": f'<{request.path}?{urlencode([*args, ("cursor", cursor)])}>; rel="next"'}


def _given(name: str, annotation: Any) -> str | list[str]:
    return request.args.getlist(name) if get_origin(annotation) is tuple else request.args[name]
