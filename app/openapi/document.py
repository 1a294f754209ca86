"""From routes, models and errors to an OpenAPI 3.1 document. Pure: what it is made of is handed in."""

from __future__ import annotations

import re
from inspect import getdoc
from typing import TYPE_CHECKING, Any, Final

from app.api.messages import MESSAGES
from app.errors import STATUSES
from app.openapi import answers
from app.openapi.collected import REF, Schemas, member_of
from app.openapi.events import ANSWERS, EVENTS
from app.openapi.operations import ANY, OPERATIONS, Operation
from app.openapi.texts import DESCRIPTION, HEADERS, REASONS, TAGS, UNREADABLE, WEBSOCKET
from core import errors
from core.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flask import Flask
    from pydantic import BaseModel
    from werkzeug.routing import Rule

    from core.errors import JelmoreError

PATH_ID: Final = re.compile(r"<(?:\w+:)?(\w+)>")
EVERYWHERE: Final = (
    errors.KeyInQuery,
    errors.ApiKeyRequired,
    errors.InvalidApiKey,
    errors.InsufficientPermissions,
    errors.RateLimited,
    errors.DatabaseUnavailable,
)
"""What every route that asks for a key may answer."""
WITH_BODY: Final = (
    errors.MalformedBody,
    errors.LengthRequired,
    errors.BodyTooLarge,
    errors.UnsupportedMediaType,
    errors.ValidationFailed,
)
SENT: Final = ("X-Request-ID", "Idempotency-Key", "Last-Event-ID", "Range")
LIMITS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Window")


def document(app: Flask) -> dict[str, Any]:
    """Return the document of an application's routes."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        operation = OPERATIONS.get(rule.endpoint)
        if operation is not None:
            path = PATH_ID.sub(r"{\1}", rule.rule)
            method = next(iter((rule.methods or set()) - {"HEAD", "OPTIONS"})).lower()
            view = app.view_functions[rule.endpoint]
            paths.setdefault(path, {})[method] = _operation(rule, operation, view, schemas)
    for model in (*EVENTS.values(), *ANSWERS.values()):
        schemas.answer(model)
    for model in MESSAGES.values():
        schemas.request(model)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Jelmore",
            "version": VERSION,
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.all(),
            "headers": {name: dict(header) for name, header in HEADERS.items()},
            "parameters": {name: {"name": name, "in": "header", **HEADERS[name]} for name in SENT},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key."},
                "ticket": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "ticket",
                    "description": "Good once, for 30 s, for one session: from `POST …/tickets`.",
                },
            },
        },
    }


def _operation(rule: Rule, operation: Operation, view: Callable[..., Any], schemas: Schemas) -> dict[str, Any]:
    text = getdoc(view) or ""
    summary, _, rest = text.partition("\n")
    described: dict[str, Any] = {
        "operationId": rule.endpoint.rpartition(".")[2],
        "tags": [operation.tag],
        "summary": summary.removesuffix("."),
        "description": " ".join(filter(None, [rest.strip(), _permission(operation)])),
        "parameters": [*_in_path(rule), *_in_query(operation), *_in_headers(operation)],
        "responses": _responses(rule, operation, schemas),
        "security": _security(operation),
    }
    if operation.body is not None:
        content = {"application/json": {"schema": schemas.request(operation.body)}}
        described["requestBody"] = {"required": operation.body_required, "content": content}
    if rule.websocket:
        described["description"] += f"\n\n{WEBSOCKET}"
        described["x-websocket"] = {
            "subprotocol": "jelmore.v1",
            "send": {name: schemas.request(model) for name, model in MESSAGES.items()},
            "receive": {name: schemas.answer(model) for name, model in {**ANSWERS, **_entries()}.items()},
        }
    return described


def _entries() -> dict[str, type[BaseModel]]:
    return {name: model for name, model in EVENTS.items() if name not in ("connected", "stream_error")}


def _permission(operation: Operation) -> str:
    match operation.permission:
        case None:
            return "No key is needed."
        case "any":
            return "Needs a key; `read` or `write`, by what is asked."
        case permission:
            return f"Needs the permission `{permission}`."


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.permission is None:
        return []
    return [{"key": []}, {"ticket": []}] if operation.ticket else [{"key": []}]


def _in_path(rule: Rule) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
        for name in PATH_ID.findall(rule.rule)
    ]


def _in_query(operation: Operation) -> Iterable[dict[str, Any]]:
    yield from operation.parameters
    if operation.query is None:
        return
    schema = operation.query.model_json_schema(ref_template=REF)
    definitions = schema.get("$defs", {})
    for name, member in schema["properties"].items():
        resolved = _resolved(member_of(member, nullable=False), definitions)
        choices = [choice for choice in resolved.pop("anyOf", ()) if choice != {"type": "null"}]
        described = {**choices[0], **resolved} if len(choices) == 1 else resolved
        parameter = {"name": name, "in": "query", "schema": described}
        if name in schema.get("required", ()):
            parameter["required"] = True
        if described.get("type") == "array":
            parameter |= {"style": "form", "explode": True}
        yield parameter


def _resolved(value: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            found = definitions[value["$ref"].rpartition("/")[2]]
            return {name: inner for name, inner in found.items() if name not in ("title", "description")}
        return {name: _resolved(inner, definitions) for name, inner in value.items()}
    return [_resolved(inner, definitions) for inner in value] if isinstance(value, list) else value


def _in_headers(operation: Operation) -> list[dict[str, Any]]:
    names = ("X-Request-ID", *operation.request_headers) if operation.permission else operation.request_headers
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _responses(rule: Rule, operation: Operation, schemas: Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, kind in operation.answers.items():
        responses[str(status)] = _answer(status, kind, operation, schemas)
    by_status: dict[int, list[type[JelmoreError]]] = {}
    for error in _errors(rule, operation):
        by_status.setdefault(STATUSES.get(error, 500), []).append(error)
    for status, kinds in sorted(by_status.items()):
        described = _problem(status, kinds, operation, schemas)
        if str(status) in responses:  # /health: the same shape, whatever the status
            continue
        responses[str(status)] = described
    for status, text in UNREADABLE.items():
        responses[str(status)] = _told(text, answers.Problem, (), schemas)
    return responses


def _answer(status: int, kind: Any, operation: Operation, schemas: Schemas) -> dict[str, Any]:
    names = [*operation.headers.get(status, ()), *_common(operation)]
    response: dict[str, Any] = {"description": REASONS[status], "headers": _headers(names)}
    content: dict[str, Any] = {}
    if kind is not None:
        content["application/json"] = {"schema": schemas.answer(kind)}
    if status in (200, 206):
        content |= {media: {"schema": schema} for media, schema in operation.media.items()}
        if operation.ticket and status == 200:
            content["text/event-stream"] = {"schema": _event(schemas)}
    if content:
        response["content"] = content
    return response


def _event(schemas: Schemas) -> dict[str, Any]:
    """Describe one event of a stream. OpenAPI 3.1 has no word for streams: the schema is that of each event."""
    kinds = []
    for name, model in EVENTS.items():
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schemas.answer(model)}
        kinds.append({"properties": {"event": {"const": name}, "data": data}, "required": ["event", "data"]})
    members = {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string"},
        "retry": {"type": "integer"},
    }
    return {"type": "object", "properties": members, "oneOf": kinds}


def _errors(rule: Rule, operation: Operation) -> list[type[JelmoreError]]:
    found: list[type[JelmoreError]] = [*operation.errors]
    if operation.permission is not None:
        found += EVERYWHERE
        found.append(errors.OriginNotAllowed)
    if operation.ticket:
        found.append(errors.TicketInvalid)
    if operation.permission == ANY:
        found.remove(errors.InsufficientPermissions) if rule.websocket else None
    if "session_id" in rule.arguments:
        found.append(errors.SessionNotFound)
    if operation.body is not None:
        found += WITH_BODY
    if operation.query is not None:
        found.append(errors.ValidationFailed)
    if operation.permission is not None:
        found.append(errors.JelmoreError)
    return list(dict.fromkeys(found))


def _problem(status: int, kinds: list[type[JelmoreError]], operation: Operation, schemas: Schemas) -> dict[str, Any]:
    models: dict[int, type[BaseModel]] = {422: answers.InvalidRequest, 429: answers.TooManyRequests}
    model = models.get(status, answers.Problem)
    lines = [f"`{kind.code}`: {(kind.__doc__ or '').strip()}" for kind in kinds]
    names = [*_common(operation)]
    if status == 401:
        names.append("WWW-Authenticate")
    if status in (429, 503) or any(kind.retry_after_seconds for kind in kinds):
        names.append("Retry-After")
    return _told("\n\n".join(dict.fromkeys(lines)), model, names, schemas)


def _told(text: str, model: type[BaseModel], headers: Iterable[str], schemas: Schemas) -> dict[str, Any]:
    content = {"application/json": {"schema": schemas.answer(model)}}
    return {"description": text, "headers": _headers(headers), "content": content}


def _common(operation: Operation) -> tuple[str, ...]:
    return ("X-Request-ID", *LIMITS) if operation.permission else ("X-Request-ID",)


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in dict.fromkeys(names)}
