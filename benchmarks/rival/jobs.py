"""The rival's job. It only says that it was taken."""

import os

from arq.connections import RedisSettings


async def run(ctx, session_id):
    await ctx["redis"].sadd(os.environ["TAKEN"], session_id)


class WorkerSettings:
    functions = [run]
    queue_name = "rival"
    max_jobs = 500
    poll_delay = 0.01
    keep_result = 0
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
