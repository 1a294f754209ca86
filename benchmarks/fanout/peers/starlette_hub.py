"""sse-starlette with one queue a client, and one Redis subscription that fills them all. Under uvicorn with uvloop."""

import asyncio
import os

import redis.asyncio
from fastapi import FastAPI
from sse_starlette.sse import EventSourceResponse

app = FastAPI()
clients = set()
kept = []


async def listen():
    channel = redis.asyncio.from_url(os.environ["REDIS_URL"]).pubsub(ignore_subscribe_messages=True)
    await channel.subscribe("fanout")
    async for message in channel.listen():
        text = message["data"].decode()
        for queue in clients:
            queue.put_nowait(text)


@app.on_event("startup")
async def begin():
    kept.append(asyncio.create_task(listen()))


@app.get("/health/live")
async def live():
    return {"status": "alive"}


@app.get("/stream")
async def follow():
    queue = asyncio.Queue()
    clients.add(queue)

    async def events():
        try:
            while True:
                yield {"data": await queue.get()}
        finally:
            clients.discard(queue)

    return EventSourceResponse(events())
