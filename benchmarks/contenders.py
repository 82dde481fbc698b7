"""The contenders: each one's name, and the command that serves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.build import built
from benchmarks.processes import python

_UVICORN: Final = (
    *("--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--backlog", "4096"),
    *("--log-level", "warning", "--no-access-log", "--lifespan", "off", "--ws", "none"),
)


@dataclass(frozen=True, slots=True)
class Contender:
    """One server under test.

    Attributes:
        name: as tables show it.
        command: makes its command line; `{port}` stands for the port.
        environment: more of it.
    """

    name: str
    command: Callable[[], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)


def uvicorn(module: str, http: str, app: str = "app") -> Callable[[], list[str]]:
    return lambda: python("uvicorn", f"benchmarks.servers.{module}:{app}", "--http", http, *_UVICORN)


FLOOR: Final = Contender("floor (C, epoll + send)", lambda: [str(built("floor")), "--port", "{port}"])
DIRECT: Final = Contender(
    "newswire, direct path", uvicorn("newswire_app", "newswire.delivery.uvicorn:DirectHttpProtocol")
)
ASGI: Final = Contender("newswire, ASGI path, Starlette", uvicorn("newswire_app", "httptools"))
HANDED: Final = Contender(
    "newswire, ASGI path, Starlette in StreamMiddleware", uvicorn("newswire_app", "httptools", "handed")
)
BARE: Final = Contender("newswire, ASGI path, no framework", uvicorn("bare_app", "httptools"))
IDLE: Final = Contender(
    "uvicorn alone, an application that waits", uvicorn("bare_app", "httptools"), {"BENCH_IDLE": "1"}
)
SSE_STARLETTE: Final = Contender("sse-starlette, a queue a client", uvicorn("sse_starlette_app", "httptools"))
FASTAPI: Final = Contender("FastAPI SSE, a queue a client", uvicorn("fastapi_app", "httptools"))
