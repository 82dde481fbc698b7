"""Flask: gunicorn --worker-class gthread --threads 200 examples.frameworks.flask_app:app"""

import os

from flask import Flask, Response, jsonify, request

from newswire import Hub, last_event_id
from newswire.integrations.flask import answer_problems, stream

app = Flask(__name__)
answer_problems(app)
hub = Hub(os.environ.get("NEWSWIRE_LOG", "sqlite:///newswire.db"))


@app.get("/events/<channel>")
def events(channel: str) -> Response:
    return stream(hub, hub.subscribe(channel, after=last_event_id(request)))


@app.post("/events/<channel>")
def publish(channel: str) -> Response:
    return jsonify(id=hub.sync.publish(channel, request.get_data()))
