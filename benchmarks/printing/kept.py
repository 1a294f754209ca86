"""How much of a session's output Redis keeps when it is in PostgreSQL."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING
from uuid import UUID

import redis

from benchmarks.client import Client
from benchmarks.measures import create, wait_until
from benchmarks.samples import LINE_BYTES, flooding
from streams import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.arms import Arm

MIB = 1024 * 1024


def kept_in_redis(arm: Arm, addresses: Mapping[str, str], lines: int) -> float:
    """Measure what is kept of a live session that has printed a flood, all of it stored. MiB."""
    session_id = create(arm, f"{shlex.join(flooding(lines))}; exec sleep 1000")
    client, server = Client(arm.port), redis.Redis.from_url(addresses["REDIS_URL"])
    wait_until(lambda: client.ask("GET", f"/{session_id}")["output_bytes"] == (lines + 1) * LINE_BYTES, "all is stored")
    kept = server.memory_usage(keys.log(UUID(session_id))) or 0
    arm.end(session_id)
    wait_until(arm.is_quiet, "it ends")
    return kept / MIB
