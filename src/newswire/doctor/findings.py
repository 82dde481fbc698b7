"""What the doctor can find, each with its cure. Used by the checks; nothing here connects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"  # readers get nothing, or lose events
    WARNING = "warning"  # it works until something else happens: a reconnect, a proxy, a deploy
    NOTE = "note"  # worth knowing; no finding


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: its name, a word or two: a key of `CURES`.
        severity: how bad it is.
        what: what was seen, for a person.
        cure: what to do; lines of configuration stand in lines of their own.
    """

    code: str
    severity: Severity
    what: str
    cure: str

    def as_json(self) -> dict[str, str]:
        """Its members by name."""
        return {"code": self.code, "severity": str(self.severity), "what": self.what, "cure": self.cure}


# Lines of configuration that several cures have.
_BUFFERING: Final = """\
nginx:       proxy_buffering off; proxy_cache off;   (or let the application send X-Accel-Buffering: no)
Caddy:       reverse_proxy app:8000 { flush_interval -1 }
Traefik:     no buffering middleware on this route
Cloudflare:  Cache-Control: no-transform from the origin; no Quick Tunnel
Django:      StreamingHttpResponse with an async generator, under an ASGI server
gunicorn:    an async worker (-k uvicorn_worker.UvicornWorker)"""
_TIMEOUTS: Final = """\
newswire:    StreamOptions(heartbeat=15)
sse-starlette: EventSourceResponse(..., ping=15)
nginx:       proxy_read_timeout 1h;
AWS ALB:     idle_timeout.timeout_seconds above the heartbeat interval
Heroku:      a byte in every 55 s"""
_COMPRESSION: Final = """\
newswire:    --compress, or StreamOptions(compress=True): it holds nothing back
nginx:       gzip off;                       (in the stream's location)
Caddy:       encode @not_streams gzip        (with @not_streams not header Content-Type text/event-stream*)
Traefik:     compress.excludedContentTypes: [text/event-stream]
Cloudflare:  Cache-Control: no-transform
Starlette:   GZipMiddleware not around the stream's route
Django:      GZipMiddleware not for the stream's view"""

_CURES: Final = """\
[status]
Answer a stream's GET with 200. Every other status but a redirect ends an EventSource for good.

[auth]
Give the doctor the credentials that a reader has: --header 'Authorization: Bearer …' or --header 'Cookie: …'.

[no-content]
204 tells an EventSource to stop for ever. Answer 200 as long as there may be more.

[content-type]
Send Content-Type: text/event-stream; with anything else a browser's EventSource ends for good.

[charset]
Leave the charset out, or say utf-8: readers decode as UTF-8 whatever it says.

[head-late]
Send the head at once, before the first event: until then a browser's EventSource is not open, and proxies give
up (nginx: after proxy_read_timeout, 60 s).

[content-length]
A stream has no Content-Length: leave it out, and let the server send chunks.

[cacheable]
Send Cache-Control: no-cache, no-transform (or no-store), or a cache may keep the stream and answer with it.

[buffered]
Something between holds events back. Switch its buffering off:
{buffering}

[compression-holds-back]
What compresses the stream does not flush it after each event. Leave streams uncompressed:
{compression}

[compression-unasked]
The answer is compressed although the request did not ask for it: respect Accept-Encoding, or leave streams
uncompressed:
{compression}

[compression-broken]
The body is not what Content-Encoding says: something between compressed it twice, or changed the header alone. Leave
streams uncompressed:
{compression}

[ends]
An EventSource takes the end of an answer for a broken connection, and comes back after its retry:. Leave the answer
open as long as there may be more events. If this was all, say so in a last event: the page closes its EventSource.

[no-heartbeat]
Send a comment when nothing else was sent for 15 s: a line with one colon. Or proxies and NATs cut the
connection, and neither side learns of it:
{timeouts}

[heartbeat-blank]
Send a heartbeat as one line, without a blank line after it. With one, readers that take each block for an event
fail as soon as events have ids: the official Python client of OpenAI, httpx-sse.

[cut]
The connection was cut in the middle of an answer: by a proxy's time-out, or by a server that was killed.
{timeouts}
gunicorn:    --timeout 0 for async workers, or a worker class that reports in while it streams

[no-ids]
Give events ids, or a reader that reconnects can't say what it has. In newswire, streams of a hub have them:
EventSourceResponse(hub.subscribe('news', after=last_event_id(request)))

[duplicate-ids]
Give each event an id of its own: a reader goes on after the id, and loses the others that have it.

[control-ids]
Leave `id:` away from pings and other control events: it moves a reader's Last-Event-ID, and the reconnect then
skips or repeats real events.

[resume-repeats]
After a reconnect the stream began again, so readers get events twice. Read the header Last-Event-ID, and go on
after it. In newswire: hub.subscribe('news', after=last_event_id(request))

[resume-loses]
After a reconnect, events that came after Last-Event-ID were missing. Keep events, and go on after the id of the
header Last-Event-ID. In newswire: Hub('sqlite:///events.db') keeps them.

[resume-order]
After a reconnect, events came in another order. Send them in the order in which they were sent at first: a reader
that is cut in between goes on after the last id that it got, and loses the others.

[reconnect-auth]
Let credentials be good for every reconnect: an EventSource sends the same address and cookies again, and an error
status ends it for good. A ticket in the address that is good once needs a page that makes a new EventSource.

[cursor-refused]
Answer a Last-Event-ID that you don't know with a stream (from now, or from the oldest event). An error status
ends a browser's EventSource for good.

[never-dispatched]
End each event with a blank line. Without it the data arrives, and no event is dispatched, or several become one. In
most languages "\\n" is a line feed in double quotes only; in single quotes it is a backslash and an n.

[unknown-lines]
Begin each line of an event with data:, event:, id:, retry: or a colon; text with line breaks needs data: before
each of its lines. Readers ignore all else.

[double-framed]
The data is a whole block, or Python's text of bytes: something encodes the stream twice. Yield the data alone,
or send the block as it is.

[not-utf8]
Send UTF-8: readers show U+FFFD for anything else, and find no event at all in UTF-16.

[event-error]
Name the event in another way: a browser gives `error` and `open` to the handlers of the connection.

[id-null]
Leave NUL out of ids: readers ignore an id that has one.

[id-long]
A reader sends the id back in a header. Servers and proxies refuse long ones (nginx, Apache, gunicorn: 8 KB), and
an error status ends an EventSource for good. Make ids short: what is long belongs into the data.

[id-unsafe]
Make ids of printable characters, without spaces at their ends. A reader sends the id back in a header: spaces at the
ends are cut off, and proxies refuse control characters.

[bad-retry]
retry: is a number of milliseconds in ASCII digits; readers ignore anything else.

[retry-storm]
A retry: below 500 ms makes all readers come back at once after each restart. 2000 or more, with jitter.

[retry-long]
retry: is in milliseconds. A reader whose connection breaks waits for so long before it comes back: after a deploy the
page stands still for more than an hour. 2000 to 10000, with jitter.

[head-hangs]
Answer HEAD with the headers alone, and end there: a body that no reader gets keeps the connection occupied, and a
proxy that sends the next reader's request on it gets no answer. Monitoring and link previews send HEAD.
Starlette:   a Route for GET answers HEAD too: return a Response without a body if request.method is HEAD
newswire:    its streams end after the headers

[cors-credentials]
For a page that sends cookies, answer with Access-Control-Allow-Credentials: true. Then the origin must be named:
browsers refuse `*`.

[cors]
Send Access-Control-Allow-Origin with the page's origin, also on errors, or a page there can't read the stream. Send it
once: if a proxy and the application both do, browsers refuse both.

[tls]
Renew the certificate, and serve the whole chain: browsers refuse the stream before a request is sent.

[redirect]
Name the final address: each reconnect goes through the redirect again.

[http1]
On HTTP/1.1 a browser opens six connections to a host, over all tabs; the seventh tab hangs. Serve HTTP/2, or
share one stream between tabs.

[accel-header]
Send X-Accel-Buffering: no, so that an nginx in front does not buffer, whatever its configuration says.

[incremental]
Send Incremental: ?1 (draft-ietf-httpbis-incremental): proxies that know it don't buffer.

[retry-none]
Send retry: with jitter, so that readers don't all come back in the same second after a restart.

[watch-longer]
Watch longer: --for 60.

[unreachable]
Check the address, and that a server listens there.
"""


def _read(text: str) -> dict[str, str]:
    """The cures by code."""
    for name, lines in (("buffering", _BUFFERING), ("timeouts", _TIMEOUTS), ("compression", _COMPRESSION)):
        text = text.replace(f"{{{name}}}", lines)
    sections = (section.partition("]\n") for section in text.strip().removeprefix("[").split("\n\n["))
    return {code: cure for code, _, cure in sections}


CURES: Final = _read(_CURES)


def finding(code: str, severity: Severity, what: str) -> Finding:
    """A finding with its cure."""
    return Finding(code, severity, what, CURES[code])
