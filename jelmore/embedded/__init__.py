"""Valkey, PostgreSQL and NATS from wheels, for whoever has no server running: `jelmore up` and the tests.

Each server is a real one, on a free port of 127.0.0.1 and with a generated password. Nothing here is used in
production, which brings its own servers and says where they are (DATABASE_URL, REDIS_URL, NATS_URL).
"""

from jelmore.embedded.nats import Nats
from jelmore.embedded.postgres import Postgres
from jelmore.embedded.server import EmbeddedServer, ServerFailed
from jelmore.embedded.valkey import Valkey

__all__ = ["EmbeddedServer", "Nats", "Postgres", "ServerFailed", "Valkey"]
