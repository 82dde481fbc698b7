"""`Relay`: an ASGI application that stands where an OpenAI- or Anthropic-compatible API is expected.

    POST …/chat/completions, …/responses, …/messages with "stream": true      becomes a run, and its first reader
    GET /runs/{id}            the same run from where `Last-Event-ID` says, in any dialect (`?dialect=`)
    DELETE /runs/{id}, POST /runs/{id}/stop      stop it; a client that only leaves stops nothing
    GET /                     says what this is, to a person
    anything else             is passed on as it is

Whose a run is follows from the request's credentials, which go to the upstream and nowhere else: to others it is not
there. A request without any gets a run of its own, whatever its key says. The upstreams are those that the relay was
given, and no request can name another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote

from newswire.delivery.asgi import Receive, Scope, Send, send_answer
from newswire.delivery.bodies import Bodies, ClientGone
from newswire.delivery.problem import problem_of
from newswire.errors import Closed, LogError, RelayRefused, RunNotFound
from newswire.redact import printable
from newswire.relay.credentials import owner_of
from newswire.relay.headers import for_upstream
from newswire.relay.options import RelayOptions
from newswire.relay.proxy import ProxiedRequest
from newswire.relay.request import RelayRequest
from newswire.relay.responses import refusal, refusal_of, send_refusal
from newswire.relay.start import fingerprint, format_of, start_run
from newswire.relay.stopping import until_stopped
from newswire.relay.upstream import Upstream, check_client, new_request
from newswire.relay.upstream_call import RelayStats, UpstreamCall
from newswire.runs.dialects import DIALECTS
from newswire.runs.store.record import Record
from newswire.validate import check_kind, check_list, options_or
from newswire.wire.payload import write_json

if TYPE_CHECKING:
    from newswire.runs.runs import Runs

_JSON: Final = "application/json"
_WELCOME: Final = """\
This is newswire's relay: a proxy of an AI API, whose streamed answers can be resumed.

Give your client this address in place of the API's, and your own API key. Keep the path that your client needs behind
it (OpenAI's: /v1):

{places}

A completion with "stream": true goes on when its client is gone. Its answer's Content-Location says where to read it
again: GET {here}/runs/ID, with the same key. Everything else is passed on as it is.
"""


class Relay:
    """The application. Run it by itself, or mount it in another one.

    Args:
        runs: where the runs are; the relay opens them when it needs them, and leaves them open.
        upstreams: what to relay to: `Upstream`s, or text such as `https://api.openai.com` or `name=URL`. One that has
            a name is at `/name/…`.
        options: see `RelayOptions`.
        client: an `httpx2.AsyncClient` to call with, or an `httpx.AsyncClient`, which stays open; None: one of its own.

    Attributes:
        stats: numbers; see `RelayStats`.

    Raises:
        ValueError: an upstream can't be used, two have one name, or there is none.
        TypeError: an argument is of another kind.
    """

    def __init__(
        self,
        runs: Runs,
        upstreams: Iterable[Upstream | str],
        *,
        options: RelayOptions | None = None,
        client: Any = None,
    ) -> None:
        from newswire.runs.runs import Runs  # late: a caller with runs has imported it

        check_kind("runs", runs, Runs)
        check_list("upstreams", upstreams)
        check_client(client)
        self.stats: RelayStats = RelayStats()
        self._runs = runs
        self._options = options_or("options", options, RelayOptions)
        self._bodies = Bodies(self._options.body_timeout, self._options.max_body, each=True)
        self._own_client = client is None
        self._client = client
        self._upstreams: dict[str, Upstream] = {}
        for each in upstreams:
            upstream = Upstream.parse(each) if isinstance(each, str) else each
            check_kind("an upstream", upstream, Upstream)
            if upstream.name in self._upstreams:
                raise ValueError(f"two upstreams have the same name ({upstream.name!r}): name=URL gives one its own")
            self._upstreams[upstream.name] = upstream
        if not self._upstreams:
            raise ValueError("a relay needs an upstream, such as https://api.openai.com")

    async def close(self) -> None:
        """Let go of the connections to upstreams that nothing uses. Runs go on until `Runs.close`."""
        if self._own_client and self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; or take part in the server's start and stop."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        request = RelayRequest(scope, receive)
        try:
            await self._answer(request, scope, receive, send)
        except RelayRefused as refused:
            await send_refusal(send, refused, head_only=request.method == "HEAD")
        except (RunNotFound, LogError, Closed) as error:
            await send_refusal(send, refusal_of(problem_of(error)), head_only=request.method == "HEAD")
        except ClientGone:
            pass

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, request: RelayRequest, scope: Scope, receive: Receive, send: Send) -> None:
        if request.path.startswith("/runs/"):
            await self._run_request(request, scope, receive, send)
            return
        if request.path in ("", "/") and request.method in ("GET", "HEAD"):
            await self._welcome(request, send)
            return
        upstream, url, path = self._route(request)
        body: bytes | None = None
        format = format_of(path) if request.method == "POST" else None
        if format is not None and _is_json(request):
            body = await request.body(self._bodies)
            if _wants_stream(body):
                await self._completion(request, upstream, url, body, format, scope, receive, send)
                return
        proxied = ProxiedRequest(request, body, url, self._http(), self._options)
        try:
            await proxied.run(receive, send)
        except RelayRefused as refused:
            proxied.status = refused.status
            raise
        finally:
            if proxied.status is not None:
                self.stats.passed[upstream.name, proxied.status] += 1

    async def _welcome(self, request: RelayRequest, send: Send) -> None:
        """Answer a person that opens the relay's address in a browser."""
        here = f"{request.scheme}://{request.header(b'host') or 'this-host'}{request.root}"
        places = [f"    {here}/{name}" if name else f"    {here}" for name in sorted(self._upstreams)]
        text = _WELCOME.format(places="\n".join(places), here=here)
        await _send_text(
            send, printable(text).encode(), "text/plain; charset=utf-8", head_only=request.method == "HEAD"
        )

    def _route(self, request: RelayRequest) -> tuple[Upstream, str, str]:
        """The upstream of a request, the URL there, and its path."""
        first, slash, rest = request.path.removeprefix("/").partition("/")
        upstream = self._upstreams.get(first) if first else None
        path, raw = request.path, request.raw_path
        if upstream is not None:
            path, raw = slash + rest, b"".join(raw.removeprefix(b"/").partition(b"/")[1:])
        else:
            upstream = self._upstreams.get("")
        if upstream is None:
            names = ", ".join(f"/{name}/" for name in sorted(self._upstreams))
            raise refusal(404, "no_upstream", f"no upstream is at this path; what there is: {names}")
        if raw and not raw.startswith(b"/"):
            raise refusal(400, "invalid_path", "a path begins with /")
        url = upstream.address(raw, request.query)
        if url is None:
            raise refusal(400, "invalid_path", "the path has . or .. in it: say where it leads")
        return upstream, url, path

    def _http(self) -> Any:
        if self._client is None:
            try:
                import httpx2
            except ImportError as error:
                raise ImportError("a relay needs httpx2: pip install 'newswire[client]', or give a client") from error
            # Each completion is a connection for as long as it takes, so their number is not to be limited here.
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=50, keepalive_expiry=30.0)
            self._client = httpx2.AsyncClient(limits=limits)
        return self._client

    # -- completions

    async def _completion(
        self,
        request: RelayRequest,
        upstream: Upstream,
        url: str,
        body: bytes,
        format: str,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        client = self._http()
        headers = for_upstream(request.headers, cookies=self._options.cookies, stream=True)
        call = UpstreamCall(
            request=new_request(client, "POST", url, headers=headers, content=body),
            client=client,
            body=body,
            format=format,
            upstream=upstream.name,
            options=self._options,
            stats=self.stats,
        )
        name = f"relay.{upstream.name}" if upstream.name else "relay"
        owner = self._owner(request)
        key = request.key()
        if owner is None and not self._options.shared:
            key = None  # nothing tells whether the same client sends it again
        mark = fingerprint(request.path.encode("utf-8", "surrogatepass") + b"?" + request.query, body)
        async with until_stopped():
            started = await start_run(self._runs, call, name=name, key=key, owner=owner, mark=mark)
        more = {**started.headers, "content-location": f"{request.root}/runs/{quote(started.run.id, safe='')}"}
        await self._runs.response(scope, started.run, dialect=format, headers=more)(scope, receive, send)

    # -- runs

    async def _run_request(self, request: RelayRequest, scope: Scope, receive: Receive, send: Send) -> None:
        run_id, slash, rest = request.path.removeprefix("/runs/").partition("/")
        allowed = {"": "GET, HEAD, DELETE", "/stop": "POST"}.get(slash + rest)
        if allowed is None:
            raise refusal(404, "not_found", "a run is at /runs/ID, and is stopped at /runs/ID/stop")
        if request.method not in allowed.split(", "):
            detail = f"{request.method[:20]} is not possible here; what is: {allowed}"
            raise refusal(405, "method_not_allowed", detail, headers=[("allow", allowed)])
        run = await self._runs.get(run_id, owner=self._owner(request))
        if "asked" not in run.meta:
            raise RunNotFound(run_id)  # none of the relay's
        if request.method in ("GET", "HEAD"):
            await self._runs.response(scope, run, dialect=_dialect(request, run.record))(scope, receive, send)
            return
        await _send_text(send, write_json({"id": run.id, "stopped": await run.stop()}).encode(), _JSON)

    def _owner(self, request: RelayRequest) -> str | None:
        return owner_of(request.headers, request.query, self._options.credential_headers)


def _is_json(request: RelayRequest) -> bool:
    kind = (request.header(b"content-type") or _JSON).partition(";")[0].strip().lower()
    plain = request.header(b"content-encoding") in (None, "", "identity")
    return plain and (kind == _JSON or kind.endswith("+json"))


def _wants_stream(body: bytes) -> bool:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False  # the upstream says what is wrong with it
    return isinstance(found, dict) and found.get("stream") is True


def _dialect(request: RelayRequest, record: Record) -> str | None:
    """The dialect that a reader asks for: by default the upstream's."""
    named = parse_qs(request.query.decode("latin-1"), keep_blank_values=True).get("dialect")
    if named is None:
        return record.head.raw
    if named[0] not in DIALECTS:
        known = sorted(DIALECTS)
        detail = f"there is no dialect {named[0][:60]!r}; there are {', '.join(known)}"
        raise refusal(400, "unknown_dialect", detail, dialects=known)
    return named[0]


async def _send_text(send: Send, body: bytes, kind: str, *, head_only: bool = False) -> None:
    headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
    await send_answer(send, 200, headers, body, head_only=head_only)
