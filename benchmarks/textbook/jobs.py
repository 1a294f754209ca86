"""The textbook's task. It only says that it was taken: what a session does is not what is measured."""

import os

import redis
from celery import Celery

app = Celery("textbook", broker=os.environ["REDIS_URL"])
app.conf.task_default_queue = "textbook"
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 100


@app.task(name="textbook.run")
def run(session_id):
    redis.Redis.from_url(os.environ["REDIS_URL"]).sadd(os.environ["TAKEN"], session_id)
