"""A kitchen's orders with htmx 4: the server writes HTML, and the page has no script that reads a stream.

Each event is a piece of the page, an `hx-partial` that names its place. The extension `hx-sse` ends its request when a
tab is hidden, and goes on after the last id when it is seen again: `newswire run examples.pages.orders:app`.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from secrets import token_hex
from time import strftime
from typing import Final
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from newswire import EventSourceResponse, Hub, Retention, last_event_id
from newswire.browser import FILES

HERE: Final = Path(__file__).parent
NEW: Final = """<hx-partial hx-target="#orders" hx-swap="afterbegin">
<li id="order-{id}"><p>{dish}</p><time>{time}</time>
<button class="button small" hx-post="/orders/{id}/done" hx-swap="none" aria-label="Done: {dish}">Done</button></li>
</hx-partial>"""
DONE: Final = """<hx-partial hx-target="#order-{id} button" hx-swap="outerHTML">
<span class="chip good">done</span>
</hx-partial>"""

hub = Hub("sqlite:///orders.db", retention=Retention(max_age=86_400))


async def order(request: Request) -> Response:
    """Publish a new order. The form's own answer is empty: all tabs get the order from the stream."""
    dish = parse_qs((await request.body()).decode(errors="replace")).get("dish", [""])[0].strip()
    if not 0 < len(dish) <= 80:
        return Response("a dish has 1 to 80 characters", 422)
    await hub.publish("orders", NEW.format(id=token_hex(6), dish=escape(dish), time=strftime("%H:%M")))
    return Response(status_code=204)


async def done(request: Request) -> Response:
    """Publish that an order is done. Two clicks, in one tab or two, are one event."""
    order_id = request.path_params["id"]
    if not order_id.isalnum():
        return Response("no such order", 404)
    await hub.publish("orders", DONE.format(id=order_id), idempotency_key=f"done {order_id}")
    return Response(status_code=204)


async def events(request: Request) -> EventSourceResponse:
    return EventSourceResponse(hub.subscribe("orders", after=last_event_id(request), start="earliest"))


app = Starlette(
    routes=[
        Route("/", lambda request: FileResponse(HERE / "orders.html")),
        Route("/orders", order, methods=["POST"]),
        Route("/orders/{id}/done", done, methods=["POST"]),
        Route("/events", events),
        Mount("/vendor", StaticFiles(directory=HERE / "vendor")),
        *(Route(path, file) for path, file in FILES.items()),
    ],
    lifespan=hub.lifespan,
)
