"""Effects that a client may ask for again without having them twice: the header Idempotency-Key.

A route gives what it does as a function of the transaction. With the header, the first request does it and its answer is kept; a
repeat gets that answer; a parallel one waits for it. Without the header there is nothing to keep beside it, and no transaction
(None): it may be done in one of its own, together with what others do.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from flask import json as flask_json
from flask import request

from app.auth import current_caller
from app.json_answer import JsonAnswer
from app.web import current_web
from core.errors import IdempotencyInProgress, ValidationFailed
from models import idempotency
from models.idempotency import Answer, Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Response
    from pydantic import BaseModel

    from app.keyring import Caller
    from app.web import Web
    from models.database import Transaction

    Do = Callable[[Transaction | None], "Effect"]

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
KEY: Final = re.compile(r"[\x20-\x7e]{1,128}")
WAIT_SECONDS: Final = 10.0
LOOKS: Final = (0.02, 0.03, 0.05, 0.1, 0.2)
"""Seconds between looks for the first request's answer; the last one repeats."""


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a request has done, once it is committed: what to tell the client, and what is to happen `then`.

    `body`: members, or the JSON of them. `told_once`: more members, for the first answer alone: they are not kept for repeats.
    """

    body: Mapping[str, Any] | str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    then: Callable[[], None] = _nothing
    told_once: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def answer(self) -> Answer:
        """Return the answer as it is sent."""
        if self.told_once and not isinstance(self.body, str):
            return Answer(self.status, flask_json.dumps({**self.body, **self.told_once}), self.headers)
        return self.kept()

    def kept(self) -> Answer:
        """Return the answer as it is kept."""
        body = self.body if isinstance(self.body, str) else flask_json.dumps(self.body)
        return Answer(self.status, body, self.headers)


def once(operation: str, wanted: BaseModel, do: Do) -> Response:
    """Do what this request asks for, or answer as the first one with its key was answered.

    `operation` says what it is, in the words of API and id ("POST sessions"); `wanted` is its body.
    """
    key = request.headers.get(HEADER)
    if key is not None and not KEY.fullmatch(key):
        message = f"{HEADER} must be 1 to 128 printable ASCII characters"
        raise ValidationFailed(errors=[{"loc": ["header", HEADER], "msg": message, "type": "idempotency_key"}])
    claim = None if key is None else claimed(current_caller(), key, operation, wanted)
    answer, replayed = perform(current_web(), claim, do)
    response = JsonAnswer(answer.body, answer.status, answer.headers)
    if replayed:
        response.headers[REPLAYED] = "true"
    return response


def claimed(caller: Caller, key: str, operation: str, wanted: BaseModel) -> Claim:
    """Return what a request claims."""
    # What was meant, not how it was spelt: the order of members and blanks is the client library's whim.
    meant = json.dumps(wanted.model_dump(mode="json", exclude_unset=True), sort_keys=True)
    return Claim(caller.identity, key, hashlib.sha256(f"{operation}\n{meant}".encode()).digest())


def perform(web: Web, claim: Claim | None, do: Do) -> tuple[Answer, bool]:
    """Return the answer, and whether it is a former one's. Raises IdempotencyInProgress if the first takes too long."""
    give_up = web.clock.now() + WAIT_SECONDS
    looks = iter(LOOKS)
    while True:
        try:
            return _attempt(web, claim, do)
        except IdempotencyInProgress:
            left = give_up - web.clock.now()
            if left <= 0:
                raise
        time.sleep(min(left, next(looks, LOOKS[-1])))


def _attempt(web: Web, claim: Claim | None, do: Do) -> tuple[Answer, bool]:
    if claim is None:
        effect = do(None)
        answer = effect.answer()
    else:
        at = web.clock.at()
        with web.database.transaction() as tx:
            kept = idempotency.look(tx, claim, at=at)
            if kept is not None:
                return kept, True
            effect = do(tx)
            answer = effect.answer()
            idempotency.keep(tx, claim, effect.kept(), at=at)
    effect.then()
    return answer, False
