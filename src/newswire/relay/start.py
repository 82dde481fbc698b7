"""`relay`: a request to an upstream becomes a run that streams its answer.

    request = client.build_request("POST", url, json={"model": …, "messages": …, "stream": True}, headers=…)
    run = await relay(runs, request, client=client, name=f"chat.{chat_id}", key=request_id, owner=user.id)
    return runs.response(http_request, run, dialect="openai-chat")

One key calls the upstream once, whichever process asks, as long as the answer is kept. If a
call produced no content (the upstream answered with an error, or the calling process died first), all requests that
wait get the same error, and the next request with the key calls again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from newswire.errors import Closed, TrimmedAway
from newswire.relay.options import RelayOptions
from newswire.relay.responses import ANSWERED, REFUSED, read_head_event, read_refusal_event, refusal
from newswire.relay.upstream import check_client
from newswire.relay.upstream_call import CONTENT, RelayStats, UpstreamCall
from newswire.runs.dialects import parser_named
from newswire.runs.reading.run import Run
from newswire.runs.store.record import Record, read_end
from newswire.validate import check_kind, options_or, shown
from newswire.wire.event import Event
from newswire.wire.reserved import END

if TYPE_CHECKING:
    from newswire.runs.runs import Runs

_FORMATS: Final = {
    "/chat/completions": "openai-chat",
    "/responses": "openai-responses",
    "/messages": "anthropic",
}
_MAX_MODEL: Final = 200  # characters of a model's name


def format_of(path: str) -> str | None:
    """The dialect that is spoken at a path of an API; None if none that newswire knows."""
    path = path.rstrip("/")
    return next((format for end, format in _FORMATS.items() if path.endswith(end)), None)


async def relay(
    runs: Runs,
    request: Any,
    *,
    client: Any = None,
    name: str = "relay",
    key: str | None = None,
    owner: str | None = None,
    format: str | None = None,
    options: RelayOptions | None = None,
) -> Run:
    """Start a run that streams an upstream's answer, or find the one that was started with the same key.

    The run stores the upstream's events as they come and can be read in every dialect; in that of the upstream they
    are what it sent. Secrets in the request's headers are not stored.

    Args:
        runs: where.
        request: an `httpx.Request` or `httpx2.Request` that asks for a stream. No redirect leads it to another origin.
        client: an `AsyncClient` of the same library, which stays open; None: one for this request.
        name: what the run belongs to; see `Runs.start`.
        key: with the same name and owner it leads to the same run; then nothing is sent.
        owner: whose the run is; None: anybody's.
        format: the dialect that the upstream speaks; None: what the path says (`/chat/completions`, `/responses`,
            `/messages`).
        options: time limits, and what the run is kept for.

    Returns:
        the run, once the upstream has begun to stream, or the run has ended.

    Raises:
        RelayRefused: there is no stream: the upstream answered something else, or can't be reached, or the key was used
            for another request.
        ValueError: the path says no format, or there is no such format.
        TypeError: an argument is of another kind.
        LogUnavailable, InvalidChannel: see `Runs.start`.
    """
    from newswire.runs.runs import Runs  # late: a caller with runs has imported it

    check_kind("runs", runs, Runs)
    if not (hasattr(request, "aread") and hasattr(request, "url")):
        raise TypeError(f"request is an httpx.Request or httpx2.Request, not {shown(request)}")
    check_client(client)
    if format is not None:
        parser_named(format)
    format = format or format_of(request.url.path)
    if format is None:
        raise ValueError(f"{request.url.path} says nothing of the upstream's format: give it as `format`")
    body = await request.aread()
    call = UpstreamCall(
        request=request,
        client=client,
        body=body,
        format=format,
        upstream=request.url.host,
        options=options_or("options", options, RelayOptions),
        stats=RelayStats(),
    )
    mark = fingerprint(request.url.raw_path, body)
    return (await start_run(runs, call, name=name, key=key, owner=owner, mark=mark)).run


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run whose upstream streams, or did.

    Attributes:
        run: the run.
        headers: what the upstream's head said beside the stream.
    """

    run: Run
    headers: Mapping[str, str] = field(default_factory=dict)


def fingerprint(path: bytes, body: bytes) -> str:
    """What tells one request from another: a key is for one."""
    return hashlib.sha256(hashlib.sha256(path).digest() + body).hexdigest()


async def start_run(
    runs: Runs, call: UpstreamCall, *, name: str, key: str | None, owner: str | None, mark: str
) -> StartedRun:
    """Start the run of a call, or find it, and wait for the upstream's head.

    Raises:
        RelayRefused: there is no stream.
    """
    meta = {"raw": call.format, "upstream": call.upstream, "asked": mark, "model": model_of(call.body)}
    before: Run | None = None
    while True:
        options = call.options.run
        run = await runs.start(
            name,
            call.produce,
            key=key,
            owner=owner,
            public=owner is None,
            meta=meta,
            options=options,
            instead_of=before,
        )
        if run.meta.get("asked") != mark:
            raise refusal(
                422,
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request: give each request a key of its own",
                again=False,
            )
        if not run.started and run.record.state == "ended" and await _produced_no_content(runs, run.record):
            before = run
            continue
        return StartedRun(run, await _first(run))


async def _first(run: Run) -> Mapping[str, str]:
    """Wait for a run's first event. Returns what the upstream's head said beside the stream.

    Raises:
        RelayRefused: it says that there is no stream.
    """
    event = await run.first_event()
    if event is None:
        raise Closed("the relay is stopping")
    if event.event == ANSWERED:
        return read_head_event(event.data)
    _refuse(event)
    return {}


def _refuse(event: Event) -> None:
    """Raise, if a run whose first event this is has no answer. A run that was stopped has an end to show."""
    if event.event == REFUSED:
        raise read_refusal_event(event.data)
    if event.event == END:
        end = read_end(event.data)
        if end.reason == "interrupted":
            detail = "the process that called the upstream died before it answered: try again"
            raise refusal(503, "interrupted", detail, headers=[("retry-after", "1")])
        if end.reason == "failed":
            error = end.error or {}
            raise refusal(502, error.get("type", "failed"), error.get("message", "The run failed."))


async def _produced_no_content(runs: Runs, record: Record) -> bool:
    """Whether an ended run has no piece of an answer, so that its key may call the upstream again.

    A run that was stopped counts as an answer.
    """
    broken = record.end is not None and record.end.reason in ("failed", "interrupted")
    reader = parser_named(str(record.head.raw))()
    try:
        async for piece in runs.store.pieces(record.id, record.begun):
            parts = reader.feed(Event(piece.data, piece.event)) if broken else ()
            if not broken or any(isinstance(part, CONTENT) for part in parts):
                return False
    except TrimmedAway:
        pass
    return True  # nothing but errors; or it is not kept any more


def model_of(body: bytes | None) -> str | None:
    """The model that a request asks for."""
    try:
        found = json.loads(body or b"")
    except (ValueError, RecursionError):
        return None
    model = found.get("model") if isinstance(found, dict) else None
    return model[:_MAX_MODEL] if isinstance(model, str) else None
