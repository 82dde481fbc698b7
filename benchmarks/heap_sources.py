"""What the pages of `benchmarks.heap` get their events from: a publisher for the console, a model for the chat."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx2
from tests.fixtures.serve import ROOT, Serve

_CHANNELS: Final = 40  # as many that stay, and as many that come and go
_BATCH_SECONDS: Final = 0.05
_TOKENS: Final = 2000  # of each answer
_WORDS: Final = (
    "**It** ",
    "was ",
    "a _long_ ",
    "story:\n\n* one\n",
    "* two\n\n",
    "```python\n",
    "add(1, 2)\n```\n\n",
    "and so on. ",
)


def console_server(stack: ExitStack, folder: Path, rate: float) -> str:
    """A server with a console, and a publisher on many channels. Returns the console's address."""
    server = stack.enter_context(Serve(folder, "--retention", ">:max_age=60s"))
    stack.enter_context(_publishing(server.url, rate))
    return server.url


@contextmanager
def _publishing(url: str, rate: float) -> Iterator[None]:
    over = threading.Event()

    def publish() -> None:
        sent, began = 0, time.monotonic()
        with httpx2.Client(base_url=url, headers={"content-type": "application/x-ndjson"}) as client:
            while not over.wait(_BATCH_SECONDS):
                due = int((time.monotonic() - began) * rate)
                lines = [json.dumps({"data": {"n": n, "text": "x" * (n % 300)}}) for n in range(sent, due)]
                if lines:
                    batch = int(sent / rate / _BATCH_SECONDS)
                    name = f"orders.{batch % _CHANNELS}" if batch % 2 else f"session.{batch // _CHANNELS}"
                    client.post(f"/channels/{name}", content="\n".join(lines)).raise_for_status()
                sent = due

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def chat_server(stack: ExitStack, folder: Path, rate: float) -> str:
    """The chat, and a model that answers at a rate. Returns the page's address."""
    url = stack.enter_context(_model(rate))
    environment = {"CHAT_LOG": f"sqlite:///{folder}/chat.db", "CHAT_MODEL_URL": url, "CHAT_MAX_TOKENS": str(_TOKENS)}
    chat = ("examples.chat.app:app", "--app-dir", str(ROOT))
    server = stack.enter_context(Serve(folder, *chat, command="run", environment=environment))
    return f"{server.url}/chat/"


def dashboard_server(stack: ExitStack, folder: Path, rate: float) -> str:
    """The dashboard of examples/pages, with batches as often as the rate needs. Returns the page's address."""
    environment = {"DASHBOARD_SECONDS": str(25 / rate)}  # a batch has 25 events
    app = ("examples.pages.dashboard:app", "--app-dir", str(ROOT))
    return stack.enter_context(Serve(folder, *app, command="run", environment=environment)).url


@contextmanager
def _model(rate: float) -> Iterator[str]:
    began: float | None = None  # when the first answer began
    sent = count()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            nonlocal began
            began = time.monotonic() if began is None else began
            for number in range(_TOKENS):
                # What the pause between two answers has cost is made up, so that the page gets the whole rate.
                time.sleep(max(0, began + next(sent) / rate - time.monotonic()))
                word = {"content": _WORDS[number % len(_WORDS)]}
                self.wfile.write(b"data: %b\n\n" % json.dumps({"choices": [{"delta": word}]}).encode())
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *args: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                pass  # the chat is gone

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
