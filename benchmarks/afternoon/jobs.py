"""The afternoon's worker: an arq job that runs the process and publishes each line."""

import asyncio
import json
import os

from arq.connections import RedisSettings


async def run(ctx, session_id, query):
    redis = ctx["redis"]
    process = await asyncio.create_subprocess_shell(
        query, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**20
    )

    async def feed():
        async with redis.pubsub() as channel:
            await channel.subscribe(f"in:{session_id}")
            async for message in channel.listen():
                if message["type"] == "message":
                    process.stdin.write(message["data"])
                    await process.stdin.drain()

    feeding = asyncio.create_task(feed())
    async for line in process.stdout:
        await redis.publish(f"out:{session_id}", json.dumps({"content": line.decode()}))
    code = await process.wait()
    feeding.cancel()
    await redis.publish(f"out:{session_id}", json.dumps({"exit_code": code}))


class WorkerSettings:
    functions = [run]
    max_jobs = 200
    job_timeout = 600
    poll_delay = 0.01
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
