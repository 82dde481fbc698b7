"""Why a connection failed: the kernel's words, through whatever a client wraps them in."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import httpx2
import pytest
from tests.fixtures.ports import free_port
from tests.fixtures.proxies import make_certificate

from newswire.reason import reason

pytestmark = pytest.mark.anyio


async def failed(url: str) -> httpx2.TransportError:
    """What a client raises."""
    async with httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.TransportError) as caught:
            await client.get(url)
    return caught.value


async def test_nobody_listens() -> None:
    """As `connect` says it, on every address."""
    error = await failed(f"http://localhost:{free_port()}")
    assert "refused" not in str(error)
    assert reason(error) == "connection refused"
    assert reason(ExceptionGroup("of tasks", [ExceptionGroup("of tasks", [error])])) == "connection refused"


async def test_a_name_that_is_none() -> None:
    """As the resolver says it."""
    assert "not known" in reason(await failed("http://nowhere.invalid"))


async def test_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    """As TLS says it: its numbers are not the kernel's."""
    certificate, key = make_certificate(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        assert "certificate" in reason(await failed(f"https://127.0.0.1:{port}"))


async def test_tls_that_does_not_come() -> None:
    """What the handshake was waiting for is no reason."""
    connections: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with httpx2.AsyncClient(timeout=0.1) as client:
            with pytest.raises(httpx2.ConnectTimeout) as caught:
                await client.get(url)
        for connection in connections:
            connection.close()
            with contextlib.suppress(OSError):
                await connection.wait_closed()
    assert reason(caught.value) == "no answer in time"


def test_what_says_nothing() -> None:
    """There is always a word."""
    assert reason(TimeoutError()) == "no answer in time"
    assert reason(LookupError()) == "LookupError"
    assert reason(RuntimeError("All connection attempts failed")) == "no connection"
