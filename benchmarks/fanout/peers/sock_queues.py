"""flask-sock with one queue a client, and one Redis subscription that fills them all. Under gunicorn's gevent worker."""

import os

import gevent
import redis
from flask import Flask
from flask_sock import Sock
from gevent.queue import Queue

app = Flask(__name__)
sock = Sock(app)
clients = set()
listening = []


def listen():
    channel = redis.Redis.from_url(os.environ["REDIS_URL"]).pubsub(ignore_subscribe_messages=True)
    channel.subscribe("fanout")
    for message in channel.listen():
        text = message["data"].decode()
        for queue in clients:
            queue.put(text)


@app.get("/health/live")
def live():
    if not listening:
        listening.append(gevent.spawn(listen))
    return {"status": "alive"}


@sock.route("/ws")
def follow(ws):
    queue = Queue()
    clients.add(queue)
    try:
        while True:
            ws.send(queue.get())
    finally:
        clients.discard(queue)
