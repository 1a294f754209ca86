"""JSON as it is taken: strict, finite, storable. Whatever bytes come, the answer is 4xx, never 500.

* A name that stands twice in an object means one thing to us and another to whoever has looked at it before us.
* NaN and Infinity are no JSON, and jsonb refuses them; 1e999 is Infinity to Python.
* Integers beyond 64 bits, and Python's own refusal of thousands of digits, are malformed here.
* 200 000 brackets are a RecursionError in the parser; a depth that passes it must not become one further on.
* NUL and half a surrogate pair fit neither into PostgreSQL nor into UTF-8.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from core.errors import MalformedBody, ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Loc = tuple[str | int, ...]

DEEPEST: Final = 64
UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def parse(body: bytes) -> Any:
    """Return what JSON bytes say. Raises MalformedBody; ValidationFailed for text that cannot be stored."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
    except json.JSONDecodeError as fault:
        raise MalformedBody(f"The body is not valid JSON: {fault.msg} (line {fault.lineno}).") from None
    except UnicodeDecodeError:
        raise MalformedBody("The body is not UTF-8.") from None
    except ValueError:  # Python's limit for digits
        raise MalformedBody("The body holds an integer of more than 64 bits.") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None
    refuse_unstorable(value)
    return value


def refuse_unstorable(value: Any) -> None:
    """Raise ValidationFailed for text that cannot be stored, MalformedBody for numbers and nesting nobody means."""
    message = "Text must not hold NUL or lone surrogates"
    faults = [{"loc": list(loc), "msg": message, "type": "unstorable_text"} for loc in _unstorable(value, ())]
    if faults:
        raise ValidationFailed(errors=faults)


def _unstorable(value: Any, loc: Loc) -> Iterator[Loc]:
    """Yield where bad text stands. Called once for each list and object, not for each value: bodies are up to a MiB."""
    if len(loc) > DEEPEST:
        raise MalformedBody("The body is nested too deeply.")
    for name, member in _members(value):
        if isinstance(member, str):
            if UNSTORABLE.search(member):
                yield (*loc, *name)
        elif isinstance(member, list | dict):
            yield from _unstorable(member, (*loc, *name))
        else:
            _check_number(member)


def _members(value: Any) -> Iterable[tuple[Loc, Any]]:
    if isinstance(value, list):
        return (((at,), member) for at, member in enumerate(value))
    if isinstance(value, dict):
        # A bad name could not be written into the answer either: it is shown mended.
        return (((UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", name),), _named(name, value[name])) for name in value)
    return [((), value)]


def _named(name: str, member: Any) -> Any:
    return name if UNSTORABLE.search(name) else member


def _check_number(number: Any) -> None:
    if isinstance(number, float) and not math.isfinite(number):
        raise MalformedBody("The body holds a number that is too large.")
    if isinstance(number, int) and not -(2**63) <= number < 2**64:
        raise MalformedBody("The body holds an integer of more than 64 bits.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise MalformedBody("The body is not valid JSON: an object has two members of one name.")
    return members


def _no_constant(name: str) -> NoReturn:
    raise MalformedBody(f"The body is not valid JSON: {name} is no number there.")
