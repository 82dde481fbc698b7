"""Spans of publishes and streams, and the links between them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from newswire import EventSourceResponse, Hub, Pattern
from newswire.log.channels import Channels
from newswire.otel import instrument, tracer
from newswire.server import Settings, create_app
from newswire.testing import asgi_client

pytestmark = pytest.mark.anyio
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Spans:
    """A provider of one process, and the spans that it has ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def read(stream: Any, count: int) -> AsyncIterator[bytes]:
    """Read so many events that have data. What reads them is returned: without it the stream would end."""
    seen = b""
    pieces: AsyncIterator[bytes] = stream.aiter_bytes()
    async with asyncio.timeout(20):
        while seen.count(b"\ndata: ") + seen.startswith(b"data: ") < count:
            seen += await anext(pieces)
    return pieces


def app_of(hub: Hub) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        channels = [Pattern(one) for one in scope["path"].strip("/").split("+")]
        await EventSourceResponse(hub.subscribe(*channels))(scope, receive, send)

    return app


async def test_one_span_a_stream_and_none_a_delivery() -> None:
    """From `traceparent` to the end of the stream, with what it read, how it began and how it ended."""
    spans = Spans()
    async with Hub("memory://") as hub, AsyncExitStack() as stack:
        instrument(hub, tracer_provider=spans.provider)
        client = await stack.enter_async_context(asgi_client(app_of(hub)))
        async with client.stream("GET", "/orders.*+news", headers={"traceparent": PARENT}) as stream:
            await until(lambda: hub.stats().streams == 1)
            for number in range(50):
                await hub.publish("news", f"{number}")
            reading = await read(stream, 50)
            await until(lambda: not hub.tracer._linking)  # type: ignore[union-attr]
            del reading
        await until(lambda: spans.named("newswire stream"))
    [span] = spans.named("newswire stream")
    assert span.kind is SpanKind.CONSUMER
    assert span.parent is not None
    assert f"{span.context.trace_id:x}" in PARENT
    assert span.attributes is not None
    assert span.attributes["messaging.destination.name"] == "news, orders.*"
    assert (span.attributes["newswire.resume"], span.attributes["newswire.end"]) == ("new", "client")
    assert len(spans.named("newswire publish")) == 50
    assert len(spans.exporter.get_finished_spans()) == 51
    assert len(span.links) == tracer.LINKS


async def test_links_cross_processes(tmp_path: Path) -> None:
    """A stream on another hub of the same log is linked to the publish, late or early; other streams are not."""
    here, there = Spans(), Spans()
    url = f"sqlite:///{tmp_path}/log.db"
    async with Hub(url) as one, Hub(url) as other, AsyncExitStack() as stack:
        instrument(one, tracer_provider=here.provider)
        instrument(other, tracer_provider=there.provider)
        client = await stack.enter_async_context(asgi_client(app_of(other)))
        streams = [await stack.enter_async_context(client.stream("GET", path)) for path in ("/a", "/b.*", "/c")]
        await until(lambda: other.stats().streams == 3)
        await one.publish("a", "1")
        positions = await one.publish_many([("b.x", "1"), ("b.x", "2")])
        reading = [await read(streams[0], 1), await read(streams[1], 2)]
        await until(lambda: len(list(other.tracer._notes)) == 2)  # type: ignore[union-attr]
        late = other.subscribe("b.x", start="earliest")  # it gets what was published before it began
        gone = asyncio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if b"data: 2" in message.get("body", b""):
                gone.set()

        await EventSourceResponse(late)({"type": "http", "method": "GET", "headers": []}, receive, send)
        assert len(reading) == 2
        for stream in streams:
            await stream.aclose()
        await until(lambda: len(there.named("newswire stream")) == 4)
    first, batch = here.named("newswire publish")
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 2
    assert batch.attributes["messaging.message.id"] == str(positions[-1])
    linked = {
        (str(span.attributes["messaging.destination.name"]), tuple(link.context.span_id for link in span.links))
        for span in there.named("newswire stream")
        if span.attributes is not None
    }
    wanted = {("a", (first.context.span_id,)), ("b.*", (batch.context.span_id,)), ("c", ())}
    assert linked == wanted | {("b.x", (batch.context.span_id,))}


async def test_a_publish_that_is_not_sampled_stores_nothing() -> None:
    """The log has the event and no note; the events are delivered as ever."""
    async with Hub("memory://") as hub:
        instrument(hub, tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
        await hub.publish("news", "1")
        await asyncio.sleep(0)
        assert (await hub.log.span()).latest == 1


async def test_a_failed_publish_has_its_error() -> None:
    """The span says why; the caller gets the same error."""
    spans = Spans()
    async with Hub("memory://") as hub:
        instrument(hub, tracer_provider=spans.provider)
        with pytest.raises(ValueError, match="already"):
            instrument(hub)
        await hub.publish("news", "1", idempotency_key="k")
        await hub.publish("news", "1", idempotency_key="k")  # stored before: no second note
        with pytest.raises(Exception, match="batch"):
            await hub.publish_many([("news", "1"), ("news", "2")], idempotency_key="k")
        await until(lambda: hub.latest == 2)
    assert spans.named("newswire publish")[-1].status.status_code is StatusCode.ERROR


async def test_notes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process removes its own old ones from the log."""
    monkeypatch.setattr(tracer, "_REMEMBERED", 5)
    spans = Spans()
    async with Hub("memory://") as hub:
        instrument(hub, tracer_provider=spans.provider)
        for number in range(40):
            await hub.publish("news", f"{number}")
        await until(lambda: hub.latest == 80)
        await until(lambda: not hub.tracer._tasks)  # type: ignore[union-attr]
        page = await hub.log.read(Channels([tracer.NOTES]), 0, 100)
        assert 4 <= len(page.entries) <= 10
        assert json.loads(page.entries[-1].data)["channels"] == ["news"]


async def test_the_server_traces_requests() -> None:
    """Publishing over HTTP goes on the trace of the request; so does the stream."""
    spans = Spans()
    app = create_app(Settings(log="memory://"))
    hub = app.state.service.hub
    instrument(hub, tracer_provider=spans.provider)
    async with app.router.lifespan_context(app), asgi_client(app, base_url="http://localhost") as client:
        async with client.stream("GET", "/channels/news") as stream:
            await client.post("/channels/news", content="1", headers={"traceparent": PARENT})
            reading = await read(stream, 1)
            await until(lambda: hub.tracer._notes)
            del reading
        await until(lambda: spans.named("newswire stream"))
    [publish] = spans.named("newswire publish")
    assert f"{publish.context.trace_id:x}" in PARENT
    [stream] = spans.named("newswire stream")
    assert [link.context.span_id for link in stream.links] == [publish.context.span_id]


async def test_a_hub_without_a_tracer_pays_nothing() -> None:
    """No call of tracing code, and none of OpenTelemetry's, however many events and streams; with a tracer, none a
    delivery: what is called for a publish does not grow with its readers."""

    async def calls(traced: bool, readers: int) -> int:
        """How many calls of such code ten publishes to so many streams are."""
        counted = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal counted
            name = frame.f_code.co_filename
            counted += event == "call" and ("/opentelemetry/" in name or "/newswire/otel/" in name or "tracing" in name)

        async with Hub("memory://") as hub, AsyncExitStack() as stack:
            if traced:
                instrument(hub, tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
            client = await stack.enter_async_context(asgi_client(app_of(hub)))
            streams = [await stack.enter_async_context(client.stream("GET", "/news")) for _ in range(readers)]
            await until(lambda: hub.stats().streams == readers)
            await hub.publish("news", "the first")
            sys.setprofile(count)
            try:
                for number in range(10):
                    await hub.publish("news", f"{number}")
                reading = [await read(stream, 11) for stream in streams]
            finally:
                sys.setprofile(None)
            assert len(reading) == readers
        return counted

    assert await calls(False, 5) == 0
    assert await calls(True, 1) == await calls(True, 8) > 0
