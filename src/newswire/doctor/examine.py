"""One examination: which connections are made, in which order, and what the checks make of them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from newswire.doctor import checks, reconnects
from newswire.doctor.findings import Finding, Severity, finding
from newswire.doctor.watch import Block, Watched, watch
from newswire.redact import is_credential, without_userinfo

_HEAD_SECONDS: Final = 5.0
_RESUME_SECONDS: Final = 5.0
_PAUSE: Final = 1.0  # less than a browser waits before it reconnects
_UNKNOWN_CURSOR: Final = "doctor-0000000000"
_ACCEPT: Final = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
_RANK: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What to examine.

    Attributes:
        url: an event stream.
        headers: of each request: credentials, say.
        method: of the request. Anything but GET is sent once: a POST may cost money.
        body: of the request.
        seconds: how long to watch the stream.
        origin: a page's origin that has to be able to read the stream, as `https://app.example`.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    body: bytes | None = None
    seconds: float = 20.0
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        url: the stream.
        findings: what is wrong, the worst first; empty: nothing.
        notes: what is worth knowing, and not wrong.
        unreachable: why there was no answer at all; None: there was one.
        watched: the connection that was watched.
    """

    url: str
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    unreachable: str | None
    watched: Watched

    def as_json(self) -> dict[str, Any]:
        """`{"url", "findings": [{"code", "severity", "what", "cure"}]}`; a stream without an answer is one finding."""
        found = self.findings
        if self.unreachable is not None:
            found = (*found, finding("unreachable", Severity.ERROR, self.unreachable))
        return {"url": self.url, "findings": [each.as_json() for each in found]}


async def examine(patient: Patient, progress: Callable[[str], object] = lambda step: None) -> Report:
    """Examine a stream. It takes `patient.seconds`, and a few more to reconnect. Cancelling closes its connections.

    Args:
        patient: the stream, and how to ask for it.
        progress: called with a few words when a step begins.

    Returns:
        what was found. A stream that can't be reached is a report too: see `Report.unreachable`.

    Raises:
        ImportError: httpx2 is not installed.
    """
    try:
        import httpx2
    except ImportError as error:
        raise ImportError("the doctor needs httpx2: pip install 'newswire[client]'") from error
    found: list[Finding] = []
    async with _clients(httpx2, patient) as clients:
        examination = _Examination(clients, patient, progress)
        seen, others = await examination.watch_all()
        cookies = clients.each.cookies  # a reader that reconnects brings them: a balancer, or a login, knows it by one
    if seen.certificate:
        what = f"the certificate is refused, so the server gets no credentials: {seen.error or ''}"
        found.append(finding("tls", Severity.ERROR, what[:300]))
        stranger = _without_credentials(patient)
        async with _clients(httpx2, stranger, verify=False) as clients:
            examination = _Examination(clients, stranger, progress)
            seen, others = await examination.watch_all()
            found += await examination.look(seen, others)
    elif seen.status is not None:
        async with _clients(httpx2, patient, cookies=cookies) as clients:
            examination = _Examination(clients, patient, progress)
            found += await examination.look(seen, others)
    elif seen.error is None:
        what = f"no answer came within {seen.seconds:.0f} s: the server waits for its first event, or something buffers"
        found.append(finding("head-late", Severity.ERROR, what))
    found.sort(key=lambda each: _RANK[each.severity])
    return Report(
        patient.url,
        tuple(each for each in found if each.severity is not Severity.NOTE),
        tuple(each for each in found if each.severity is Severity.NOTE),
        None if seen.status is not None or seen.error is None or seen.certificate else seen.error,
        seen,
    )


@dataclass(frozen=True, slots=True)
class _Clients:
    """HTTP clients: one that opens a connection for each request, and one that keeps its connection for the next."""

    each: Any
    kept: Any


@contextlib.asynccontextmanager
async def _clients(
    httpx2: Any, patient: Patient, *, verify: bool = True, cookies: Any = None
) -> AsyncIterator[_Clients]:
    async def keep_credentials(request: Any) -> None:
        """Send a redirect to another origin without them; of `Authorization` and cookies the library does so."""
        home, url = httpx2.URL(patient.url), request.url
        if (url.scheme, url.host, url.port) != (home.scheme, home.host, home.port):
            for name in filter(is_credential, patient.headers):
                if name.lower() != "cookie":  # here it would be one that this origin has set
                    request.headers.pop(name, None)

    context: ssl.SSLContext = httpx2.create_ssl_context(verify=verify)
    try:
        import h2  # noqa: F401
    except ImportError:
        http2 = False
    else:
        http2 = True

    def client(kept: int) -> Any:
        limits = httpx2.Limits(max_keepalive_connections=kept)
        return httpx2.AsyncClient(
            verify=context,
            http2=http2,
            timeout=None,
            follow_redirects=True,
            limits=limits,
            cookies=cookies,
            event_hooks={"request": [keep_credentials]},
        )

    async with client(0) as each, client(1) as kept:
        yield _Clients(each, kept)


def _without_credentials(patient: Patient) -> Patient:
    headers = {name: value for name, value in patient.headers.items() if not is_credential(name)}
    return replace(patient, url=without_userinfo(patient.url), headers=headers)


@dataclass(slots=True)
class _Others:
    """What ran beside the watch; None: it did not."""

    packed: Watched | None = None
    head: Watched | None = None
    after_head: Watched | None = None  # on the same connection


class _Examination:
    """The connections of one examination."""

    def __init__(self, clients: _Clients, patient: Patient, progress: Callable[[str], object]) -> None:
        self._clients = clients
        self._patient = patient
        self._progress = progress
        self._repeatable = patient.method == "GET"

    async def _watch(self, seconds: float, **more: Any) -> Watched:
        patient = self._patient
        headers = {**_ACCEPT, "Accept-Encoding": "identity", **patient.headers, **more.pop("headers", {})}
        if patient.origin is not None:
            headers["Origin"] = patient.origin
        more = {"method": patient.method, "body": patient.body, **more}
        client = more.pop("client", self._clients.each)
        return await watch(client, patient.url, seconds=seconds, headers=headers, **more)

    async def watch_all(self) -> tuple[Watched, _Others]:
        """The long watch, and beside it what must not wait for it."""
        patient, others = self._patient, _Others()
        self._progress(f"watching {patient.url} for {patient.seconds:g} s")
        if not self._repeatable:
            return await self._watch(patient.seconds), others
        opened = asyncio.Event()

        async def first() -> Watched:
            try:
                return await self._watch(patient.seconds, opened=opened.set)
            finally:
                opened.set()

        async def beside(seconds: float, **more: Any) -> Watched:
            # A server may let in one at a time, or the first one: that has to be the one that is watched.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(opened.wait(), checks.LATE)
            return await self._watch(seconds, **more)

        async def heads() -> tuple[Watched, Watched | None]:
            seconds = min(_HEAD_SECONDS, patient.seconds)
            head = await beside(seconds, method="HEAD", client=self._clients.kept)
            if head.status is None or not head.ended:
                return head, None
            return head, await self._watch(seconds, method="HEAD", client=self._clients.kept)

        seen, others.packed, (others.head, others.after_head) = await asyncio.gather(
            first(),
            beside(patient.seconds, headers={"Accept-Encoding": "gzip, deflate"}),
            heads(),
        )
        return seen, others

    async def look(self, seen: Watched, others: _Others) -> list[Finding]:
        """What is wrong with what was seen, and with a reconnect."""
        found = list(checks.head(seen))
        if not seen.is_stream:
            return found
        for check in checks.ONE_CONNECTION if seen.is_readable else ():
            found += check(seen)
        cookies = any(name.lower() == "cookie" for name in self._patient.headers)
        found += checks.cors(seen, self._patient.origin, cookies=cookies)
        if others.packed is not None:
            found += checks.compressed(seen, others.packed)
        if others.head is not None:
            found += checks.head_request(others.head, others.after_head)
        if self._repeatable:
            await self._reconnect(seen, found)
        return found

    async def _reconnect(self, seen: Watched, found: list[Finding]) -> None:
        """Reconnect twice, and add what is found."""
        after = _middle(seen)
        if after is None or any(each.code == "duplicate-ids" for each in found):
            return
        name = after.last("id") or ""
        seconds = max(1.0, min(_RESUME_SECONDS, self._patient.seconds))
        self._progress(f"reconnecting with Last-Event-ID: {name[:60]}")

        def whole(again: Watched) -> bool:
            return again.size >= seen.size

        headers = {"Last-Event-ID": name.strip(" \t").encode()}  # as browsers do
        again = await self._watch(seconds, headers=headers, enough=whole)
        if again.status in reconnects.BUSY:  # it has yet to notice that the other connections are gone
            await asyncio.sleep(_PAUSE)
            again = await self._watch(seconds, headers=headers, enough=whole)
        wrong = list(reconnects.resume(seen, again, after))
        if reconnects.is_over(seen, again, after):
            found[:] = [each for each in found if each.code != "ends"]
            return
        found += wrong
        if any(each.code in ("cursor-refused", "reconnect-auth", "head-late", "ends") for each in wrong):
            return
        self._progress("reconnecting with a Last-Event-ID that the server does not know")
        unknown = await self._watch(
            seconds, headers={"Last-Event-ID": _UNKNOWN_CURSOR}, enough=lambda each: bool(each.chunks)
        )
        found += reconnects.unknown_cursor(unknown, seen)


def _middle(seen: Watched) -> Block | None:
    """An event with an id that others came after; the last one if there is no other."""
    named = [event for event in checks.own_events(seen) if "\0" not in (event.last("id") or "\0")]
    return named[(len(named) - 1) // 2] if named else None
