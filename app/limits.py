"""Rate limits: which rules a request counts under, the headers that say what is left, and the answer when nothing is.

A request is counted once: under the global rule and that of its route, for its key; without a good key for its address, and
with a wrong one as a failed authentication as well. Right keys are taken from an address whatever was tried from
there: neighbours behind one address must not lock each other out. How the counting is done is `app.counters`'s business.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from flask import current_app, g, request

from app import errors
from app.counters import Count, Hit
from app.here import these_notes, this_request
from app.web import current_web
from core import metrics
from core.errors import InvalidApiKey, RateLimited, TicketInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask, Response

    from app.keyring import Caller
    from core.rates import Rate
    from core.settings import Settings

View = TypeVar("View", bound="Callable[..., Any]")

HEADERS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Window")
WRONG_KEYS: Final = frozenset({InvalidApiKey.code, TicketInvalid.code})
STREAMS: Final = frozenset({"streaming", "websocket"})
RULE: Final = "jelmore_limited_by"
NOT_COUNTED: Final = "jelmore_not_counted"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands under one rule, this request included. `reset_at`: epoch seconds."""

    rule: str
    rate: Rate
    used: int
    seconds_left: float
    reset_at: float

    @property
    def remaining(self) -> int:
        """Return how often it may be done until the window's end."""
        return max(0, self.rate.count - self.used)

    @property
    def exceeded(self) -> bool:
        """Whether this was once too often."""
        return self.used > self.rate.count

    def headers(self) -> dict[str, str]:
        """Return what an answer says."""
        figures = (self.rate.count, self.remaining, math.ceil(self.reset_at), self.rate.window_seconds)
        return dict(zip(HEADERS, map(str, figures), strict=True))

    def refusal(self) -> RateLimited:
        """Return the error that says when to come again."""
        return RateLimited(self.rate.count, self.rate.window_seconds, max(1, math.ceil(self.seconds_left)))


def limited(rule: str) -> Callable[[View], View]:
    """Count a route under a rule of its own, beside the global one. Stands below `requires`."""

    def mark(view: View) -> View:
        setattr(view, RULE, rule)
        return view

    return mark


def not_counted(blueprint_or_view: View) -> View:
    """Leave a route out: nobody is refused, and its answers have no headers."""
    setattr(blueprint_or_view, NOT_COUNTED, True)
    return blueprint_or_view


def install(app: Flask) -> None:
    """Count what has not been counted when its answer is ready, and write the headers."""
    app.after_request(_finish)


def admit(caller: Caller) -> None:
    """Count this request for its key. Raises RateLimited."""
    settings = current_web().settings
    rules = {"global": settings.rate_limit_global}
    if (rule := _rule_of_route()) is not None:
        rules[rule] = rate_of(settings, rule)
    hits = [Hit(f"key:{caller.identity}", rule, rate) for rule, rate in _with(rules, caller) if rate is not None]
    _count(hits)


def rate_of(settings: Settings, rule: str) -> Rate | None:
    """Return what the settings say about a rule; None: no limit."""
    return cast("Rate | None", getattr(settings, f"rate_limit_{rule}"))


def headers() -> dict[str, str]:
    """Return the four headers for the rule with the least remaining; none for who is not limited."""
    return _headers(g.get("standings", []))


def _headers(standings: list[Standing]) -> dict[str, str]:
    if not standings:
        return {}
    return min(standings, key=lambda standing: (standing.remaining, -standing.reset_at)).headers()


def _with(rules: dict[str, Rate | None], caller: Caller) -> list[tuple[str, Rate | None]]:
    return [(rule, caller.rate_limits.get(rule, rate)) for rule, rate in rules.items()]


def _rule_of_route() -> str | None:
    asked = this_request()
    view = current_app.view_functions.get(asked.endpoint or "")
    rule: str | None = getattr(view, RULE, None)
    if rule in STREAMS and (asked.method == "HEAD" or _resumes()):
        return None  # a stream that goes on where it broke off, or none at all
    return rule


def _resumes() -> bool:
    """Whether a stream is asked to go on behind some entry. Whether that exists is looked at later."""
    asked = request.headers.get("Last-Event-ID") or request.args.get("after", "")
    return asked.strip("0,") != ""


def _count(hits: list[Hit]) -> None:
    """Count, remember for the headers, and raise RateLimited if it was once too often under one of the rules."""
    g.standings = []
    if not hits:
        return
    web = current_web()
    now = web.clock.at().timestamp()
    g.standings = [_standing(hit, count, now) for hit, count in zip(hits, web.counters.hit(hits), strict=True)]
    exceeded = [standing for standing in g.standings if standing.exceeded]
    for standing in exceeded:
        metrics.RATE_LIMITED.labels(standing.rule).inc()
    if exceeded:
        raise max(exceeded, key=lambda standing: standing.seconds_left).refusal()


def _standing(hit: Hit, count: Count, now: float) -> Standing:
    return Standing(hit.rule, hit.rate, count.count, count.seconds_left, now + count.seconds_left)


def _finish(response: Response) -> Response:
    asked, notes = this_request(), these_notes()
    view = current_app.view_functions.get(asked.endpoint or "")
    if asked.blueprint == "health" or getattr(view, NOT_COUNTED, False):
        return response
    if "standings" not in notes:
        response = _counted_for_address(response)
    response.headers.extend(_headers(notes.get("standings", [])))
    return response


def _counted_for_address(response: Response) -> Response:
    """Count who has shown no good key. It has cost nothing yet to find out: refusing afterwards is early enough."""
    settings = current_web().settings
    rules = {"global": settings.rate_limit_global}
    if g.get("error_code") in WRONG_KEYS:
        rules["authentication"] = settings.rate_limit_authentication
    whose = f"address:{address_of(request.remote_addr or '')}"
    try:
        _count([Hit(whose, rule, rate) for rule, rate in rules.items() if rate is not None])
    except RateLimited as refused:
        return errors.answer(refused)
    return response


def address_of(text: str) -> str:
    """Return what is counted as one address: of IPv6 the /64, which is what one customer gets."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text[:64]  # a proxy's own idea of an address
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)
