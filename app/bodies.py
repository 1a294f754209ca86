"""Reading a request's body: checked before a byte is read, bounded in time, then JSON, then the model."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

import gevent
from flask import request
from pydantic import BaseModel, ValidationError

from app.here import this_request
from app.json_input import parse
from app.process import is_patched
from app.web import current_web
from core.errors import BodyTooLarge, LengthRequired, MalformedBody, UnsupportedMediaType, ValidationFailed

if TYPE_CHECKING:
    from flask import Request

    from core.settings import Settings

JSON: Final = "application/json"
Model = TypeVar("Model", bound=BaseModel)


def read_body(model: type[Model]) -> Model:
    """Return the request's JSON as a model. Raises the error that says what is wrong with it."""
    return validated(model, parse(_body(current_web().settings)))


def read_optional_body(model: type[Model]) -> Model:
    """Return the request's JSON as a model; no body at all is an empty object."""
    if not request.content_length and "Transfer-Encoding" not in request.headers:
        return validated(model, {})
    return read_body(model)


def validated(model: type[Model], value: Any) -> Model:
    """Return a value as a model. Raises ValidationFailed with every fault and none of the input."""
    try:
        return model.model_validate(value)
    except ValidationError as refused:
        faults = refused.errors(include_url=False, include_input=False, include_context=False)
        raise ValidationFailed(
            errors=[
                {
                    "loc": list(fault["loc"]),
                    "msg": fault["msg"].removeprefix("Value error, "),
                    "type": fault["type"],
                }
                for fault in faults
            ]
        ) from None


def _body(settings: Settings) -> bytes:
    asked = this_request()
    if "HTTP_TRANSFER_ENCODING" in asked.environ:
        # gunicorn cuts a chunked body off at a limit without a word.
        raise LengthRequired
    if (asked.content_length or 0) > settings.max_body_bytes:
        raise BodyTooLarge(f"The body is over {settings.max_body_bytes} bytes.")
    if asked.environ.get("CONTENT_TYPE") != JSON and (asked.mimetype != JSON or _charset(asked) != "utf-8"):
        raise UnsupportedMediaType
    try:
        with _in_time(settings.body_timeout_seconds):
            return asked.get_data(cache=False)
    except OSError as fault:  # reset: nobody will read the answer, but the log is not to call it our mistake
        raise MalformedBody("The body broke off.") from fault


def _charset(asked: Request) -> str:
    return asked.mimetype_params.get("charset", "utf-8").lower()


def _in_time(seconds: float) -> AbstractContextManager[Any]:
    """Bound the time a body takes to arrive; a plain process, a test's, has no loop that could."""
    if not is_patched():
        return nullcontext()
    timeout: AbstractContextManager[Any] = gevent.Timeout(seconds, MalformedBody("The body did not arrive in time."))
    return timeout
