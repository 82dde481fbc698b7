"""Everything that is no completion: passed on as it is, and the answer back, without either body being held.

The bytes are not looked at, so what is compressed stays so. A client that leaves ends the request to the upstream.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from newswire.delivery.asgi import Receive, Send, watch
from newswire.delivery.bodies import ClientGone
from newswire.relay.headers import as_stream, for_client, for_upstream
from newswire.relay.options import RelayOptions
from newswire.relay.request import RelayRequest
from newswire.relay.responses import refusal
from newswire.relay.upstream import library_of, new_request, send, set_timeouts

logger: logging.Logger = logging.getLogger("newswire.runs")


class ProxiedRequest:
    """One request that is passed on.

    Args:
        request: the request.
        body: its body, if it was read already; None: it is still to come.
        url: where it goes.
        client: an `httpx2.AsyncClient`, or an `httpx.AsyncClient`.
        options: the relay's.

    Attributes:
        status: of the answer; None before it is there.
    """

    def __init__(self, request: RelayRequest, body: bytes | None, url: str, client: Any, options: RelayOptions) -> None:
        self.status: int | None = None
        self._request = request
        self._body = body
        self._url = url
        self._client = client
        self._options = options
        self._wholly_read = asyncio.Event()

    async def run(self, receive: Receive, answer: Send) -> None:
        """Pass it on, and answer.

        Raises:
            RelayRefused: there is no answer of the upstream's; nothing was sent.
        """
        work = asyncio.get_running_loop().create_task(self._work(answer), name="newswire relay passes on")
        unwatch = None
        read = asyncio.ensure_future(self._wholly_read.wait())
        try:
            await asyncio.wait({work, read}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                unwatch = watch(receive, work.cancel)
                await asyncio.wait({work})
        except BaseException:
            work.cancel()
            await asyncio.wait({work})
            raise
        finally:
            read.cancel()
            if unwatch is not None:
                unwatch()
        if not work.cancelled():
            work.result()

    def _outgoing(self) -> Any:
        headers = for_upstream(self._request.headers, cookies=self._options.cookies, stream=False)
        content: Any = self._body
        if content is None and self._request.has_body:
            content = self._chunks()
            length = self._request.header(b"content-length")
            if length is not None:
                headers.append((b"content-length", length.encode()))
        else:
            self._wholly_read.set()
        request = new_request(self._client, self._request.method, self._url, headers=headers, content=content)
        set_timeouts(request, self._options)
        return request

    async def _chunks(self) -> Any:
        async for chunk in self._request.chunks(self._options.body_timeout):
            yield chunk
        self._wholly_read.set()

    async def _work(self, answer: Send) -> None:
        httpx = library_of(self._client)
        request = self._outgoing()
        try:
            response = await send(self._client, request, body=self._body)
        except ClientGone:
            return  # nothing waits for an answer
        except TimeoutError:
            raise refusal(408, "body_timeout", "the request's body did not come in time") from None
        self.status = response.status_code
        try:
            headers = as_stream(for_client(response.headers.raw, cookies=self._options.cookies))
            await answer({"type": "http.response.start", "status": response.status_code, "headers": headers})
            async for chunk in response.aiter_raw():
                await answer({"type": "http.response.body", "body": chunk, "more_body": True})
            await answer({"type": "http.response.body", "body": b"", "more_body": False})
        except (httpx.HTTPError, httpx.StreamError) as error:
            # The server sees that the answer has no end, and breaks the connection: the client is not to take it for
            # a whole one.
            logger.warning("an upstream's answer broke off: %s", error)
        finally:
            await response.aclose()
