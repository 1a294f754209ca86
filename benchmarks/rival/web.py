"""What is quick elsewhere: FastAPI, asyncpg, arq. One statement, one job. No key, no limit, no outbox, no audit."""

import json
import os
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
from arq import create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI
from pydantic import BaseModel

INSERT = """
    INSERT INTO rival_sessions (id, query, user_id, current_directory, status, data, created_at, updated_at)
    VALUES ($1, $2, $3, $4, 'initializing', $5, $6, $6)
    RETURNING id, query, user_id, current_directory, status, data, created_at, updated_at
"""
state = {}


class SessionRequest(BaseModel):
    query: str
    user_id: str | None = None
    current_directory: str | None = None
    metadata: dict[str, Any] = {}


@asynccontextmanager
async def opened(_):
    state["database"] = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=8, max_size=16)
    state["queue"] = await create_pool(RedisSettings.from_dsn(os.environ["REDIS_URL"]), default_queue_name="rival")
    yield


app = FastAPI(lifespan=opened)


@app.get("/health/live")
async def live():
    return {"status": "alive"}


@app.post("/api/v1/sessions", status_code=201)
async def create(wanted: SessionRequest):
    row = await state["database"].fetchrow(
        INSERT,
        uuid.uuid4(),
        wanted.query,
        wanted.user_id,
        wanted.current_directory,
        json.dumps(wanted.metadata),
        datetime.now(UTC),
    )
    await state["queue"].enqueue_job("run", str(row["id"]))
    return {
        "session_id": str(row["id"]),
        "query": row["query"],
        "user_id": row["user_id"],
        "current_directory": row["current_directory"],
        "status": row["status"],
        "metadata": json.loads(row["data"]),
        "created_at": row["created_at"].isoformat(),
        "updated_at": row["updated_at"].isoformat(),
    }
