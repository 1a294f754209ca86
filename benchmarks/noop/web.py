"""A Flask route that does nothing: what every Flask application pays."""

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/health/live")
def live():
    return jsonify(status="alive")


@app.route("/api/v1/sessions", methods=["GET", "POST"])
def nothing():
    return jsonify(status="ok")
