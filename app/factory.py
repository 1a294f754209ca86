"""Putting the application together: what runs around every request, the blueprints, the error table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
from flask import Flask
from flask.json.provider import DefaultJSONProvider
from flask.sessions import NullSession, SessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter

from app import (
    access,
    commands,
    cors,
    docs,
    errors,
    event_commands,
    headers,
    health,
    limits,
    origin,
    request_id,
    spans,
    static_files,
)
from app.api import blueprint
from app.converters import IdConverter
from app.unread import Unread
from app.web import EXTENSION, open_web
from core import logs
from core.settings import load_settings
from core.tracing import TRACING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Request
    from flask.sessions import SessionMixin

    from app.web import Web
    from core.settings import Settings


NOBODYS: Final = NullSession()


class Json(DefaultJSONProvider):
    """JSON as the contract has it: members in our order, UTF-8, no blanks."""

    sort_keys = False

    def dumps(self, obj: Any, **options: Any) -> str:
        """Return JSON; whatever orjson refuses (numbers beyond 64 bits that PostgreSQL made) the slow way."""
        try:
            return orjson.dumps(obj).decode()
        except TypeError:
            return super().dumps(obj, **options)


class NoSessions(SessionInterface):
    """There are no cookies here."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin:  # noqa: ARG002  (Flask's own signature)
        """Return what says at once that it is nobody's."""
        return NOBODYS

    def is_null_session(self, obj: object) -> bool:  # noqa: ARG002
        """Whether there is nothing to be saved."""
        return True


class Application(Flask):
    """Flask without what it does for everybody at each request and nobody needs here."""

    session_interface = NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function: none of ours is a coroutine, and Flask would look at it each time."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route. No route depends on the host, whose name would be taken apart and encoded here."""
        if request is None or "HTTP_UPGRADE" in request.environ:  # a WebSocket's has a scheme of its own
            return super().create_url_adapter(request)
        environ = request.environ
        path = environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace")
        root, query = request.root_path + "/", environ.get("QUERY_STRING", "")
        return MapAdapter(self.url_map, "", root, "", request.scheme, path, request.method, query)


def build(settings: Settings | None, world: Web | None) -> Flask:
    """Return the application, its resources open."""
    if world is None:
        settings = settings or load_settings()
        logs.configure("web", settings)
        TRACING.open("web", settings)
        world = open_web(settings)
    app = Application("jelmore", static_folder=None)
    app.json = Json(app)
    app.extensions[EXTENSION] = world
    # A path is right or it is unknown: no redirects that turn a POST into a GET.
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.url_map.converters |= dict.fromkeys(("session_id", "key_id", "webhook_id"), IdConverter)
    if hops := world.settings.trusted_proxy_hops:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
    app.wsgi_app = Unread(app.wsgi_app)  # type: ignore[method-assign]
    request_id.install(app)
    spans.install(app)
    access.install(app)
    headers.install(app)
    cors.install(app)
    errors.install(app)
    origin.install(app)
    commands.install(app)
    app.cli.add_command(event_commands.events)
    limits.install(app)  # last: what it refuses when the answer is ready still goes through all of the above
    app.register_blueprint(health.blueprint)
    app.register_blueprint(static_files.blueprint)
    app.register_blueprint(docs.blueprint, url_prefix=world.settings.api_prefix)
    app.register_blueprint(blueprint, url_prefix=f"{world.settings.api_prefix}/v1")
    return app
