"""What a user would write in an afternoon: FastAPI, sse-starlette and Redis pub/sub. Runs in the bench's own environment."""

import os
import uuid

import redis.asyncio
from arq import create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI, Request
from sse_starlette.sse import EventSourceResponse

app = FastAPI()
state = {}


@app.on_event("startup")
async def open_connections():
    state["redis"] = redis.asyncio.from_url(os.environ["REDIS_URL"])
    state["queue"] = await create_pool(RedisSettings.from_dsn(os.environ["REDIS_URL"]))


@app.get("/health/live")
async def live():
    return {"status": "alive"}


@app.post("/api/v1/sessions", status_code=201)
async def create(request: Request):
    body = await request.json()
    session_id = str(uuid.uuid4())
    await state["queue"].enqueue_job("run", session_id, body["query"])
    return {"session_id": session_id}


@app.post("/api/v1/sessions/{session_id}/input")
async def send_input(session_id: str, request: Request):
    body = await request.json()
    await state["redis"].publish(f"in:{session_id}", body["input"] + "\n")
    return {"message": "sent"}


@app.get("/api/v1/sessions/{session_id}/stream")
async def stream(session_id: str):
    async def events():
        async with state["redis"].pubsub() as channel:
            await channel.subscribe(f"out:{session_id}")
            yield {"event": "connected", "data": "{}"}
            async for message in channel.listen():
                if message["type"] == "message":
                    data = message["data"].decode()
                    yield {"event": "terminated" if data.startswith('{"exit') else "output", "data": data}
                    if data.startswith('{"exit'):
                        return

    return EventSourceResponse(events())
