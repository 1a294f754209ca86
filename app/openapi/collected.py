"""Models as JSON Schema, each once, under its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_origin

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from pydantic import BaseModel

REF: Final = "#/components/schemas/{model}"


class Schemas:
    """The models that were met, under their names."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def request(self, kind: Any) -> dict[str, Any]:
        """Return a schema of what clients send. What is optional may be null: that is as if it were absent."""
        return self._named(kind, "validation")

    def answer(self, kind: Any) -> dict[str, Any]:
        """Return a schema of what is answered: these members and no others."""
        return self._named(kind, "serialization")

    def message(self, kind: type[BaseModel], event: str, more: dict[str, Any]) -> dict[str, Any]:
        """Return a schema of what a WebSocket says: the model's members, its event, and `more` that are always there."""
        self.answer(kind)
        found = self._found[kind.__name__]
        first = {"event": {"const": event}, **more}
        return {
            **found,
            "properties": {**first, **found["properties"]},
            "required": [*first, *found.get("required", ())],
        }

    def all(self) -> dict[str, Any]:
        """Return what the document's references lead to."""
        return dict(sorted(self._found.items()))

    def _named(self, kind: Any, mode: Any) -> dict[str, Any]:
        adapter = TypeAdapter(kind)
        schema = adapter.json_schema(ref_template=REF, mode=mode)
        inner = schema.pop("$defs", {})
        for name, found in inner.items():
            self._keep(name, _tidy(found, mode))
        if get_origin(kind) is not None:
            return schema
        self._keep(kind.__name__, _tidy(schema, mode))
        return {"$ref": REF.format(model=kind.__name__)}

    def _keep(self, name: str, schema: dict[str, Any]) -> None:
        if self._found.setdefault(name, schema) != schema:
            raise ValueError(f"two models of the document are called {name}")


def _tidy(schema: dict[str, Any], mode: str) -> dict[str, Any]:
    """Leave out pydantic's titles, and say what it cannot know."""
    schema = {name: value for name, value in schema.items() if name != "title"}
    members = schema.get("properties")
    if members is None:
        return schema
    required = set(schema.get("required", ()))
    schema["properties"] = {
        name: member_of(member, nullable=mode == "validation" and name not in required)
        for name, member in members.items()
    }
    schema.setdefault("additionalProperties", False)
    return schema


def member_of(member: dict[str, Any], *, nullable: bool) -> dict[str, Any]:
    """Return a member's schema without what goes without saying; `nullable`: null is as if it were absent."""
    member = {name: value for name, value in member.items() if name not in ("title", "writeOnly")}
    if member.get("default", ...) is None:
        del member["default"]
    if not nullable or any(choice == {"type": "null"} for choice in member.get("anyOf", ())):
        return member
    outside: dict[str, Any] = {name: member.pop(name) for name in ("default", "description") if name in member}
    return {"anyOf": [member, {"type": "null"}], **outside}
