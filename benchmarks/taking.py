"""A Celery application whose tasks only say that they were taken: for real workers that are to run nothing, and for Flower.

It is set up as Jelmore's own, and has Jelmore's task by its name. What is taken goes into a set of Redis named by TAKEN.
"""

from __future__ import annotations

from celery import current_task
from redis import Redis

from benchmarks.fronts import FLOWERS
from core.settings import environment, load_settings
from tasks.queue import RUN, make_app

app = make_app(load_settings())
app.conf.worker_prefetch_multiplier = 100
app.conf.task_routes = {FLOWERS: {"queue": FLOWERS}}
_redis = Redis.from_url(environment()["REDIS_URL"])


def _take(said: str) -> None:
    _redis.sadd(environment()["TAKEN"], said)


@app.task(name=RUN, ignore_result=True)
def run(session_id: str) -> None:
    """Take a session's start."""
    _take(session_id)


@app.task(name=FLOWERS, ignore_result=True)
def flowers(*_: object) -> None:
    """Take what Flower sends: the same arguments each time, so that its id is what counts."""
    _take(str(current_task.request.id))
