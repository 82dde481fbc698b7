"""The one connection to the server, and requests over it. What they mean is known to `newswire.log.nats.stream`.

A connection that broke is not repaired: `connect` makes another one. Whoever waits for an answer then hears that there
will be none. No password is ever in what is raised here.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from nats import errors
from nats.aio.msg import Msg as Msg  # for the other modules
from nats.aio.subscription import Subscription

from newswire.counted import counted
from newswire.deadline import Deadline
from newswire.errors import LogError, LogUnavailable
from newswire.log.nats.client import DirectClient
from newswire.log.server import LinkLost, text_of

STATUS: Final = "Status"
_PING_SECONDS: Final = 10  # a server that does not answer two of them in a row is gone
_HEAD: Final = len("NATS/1.0\r\n\r\n")  # around headers
_LINE: Final = len(": \r\n")  # around the name and the value of one
FULL: Final = (10023, 10028, 10047)  # what JetStream says that has no room left for an account, or at all
_PUBLISH: Final = re.compile(r'publish to "([^"]*)"', re.IGNORECASE)

# Called with an answer; None: there will be none, as the connection broke.
OnAnswer: TypeAlias = Callable[[Msg | None], object]


class NoResponders(LogUnavailable):
    """No stream takes it, at this moment: it is stored nowhere."""


class NatsRefused(LogError):
    """The server says no.

    Attributes:
        code: JetStream's `err_code`.
    """

    def __init__(self, code: int, text: str) -> None:
        hint = ": raise the server's max_file_store or the account's limit, or keep less" if code in FULL else ""
        super().__init__(f"the server refuses it: {text} ({code}){hint}")
        self.code = code


class NatsLink:
    """One connection.

    Args:
        url: where the server is; see `NatsLog`.
        timeout: seconds to wait for a connection or an answer.
        creds: a file with a user's JWT and seed.
        ca: a file with certificates.

    Attributes:
        name: the server's, for people.
        run: which server process it is; empty for one of a cluster, which is not the only one that has the log.
        version: its software's.
        max_payload: the largest message that it takes, in bytes.
        on_lost: called when the connection broke.
        on_denied: called with a subject, in small letters, to which this user may not publish: it is stored nowhere.
    """

    def __init__(self, url: str, timeout: float, creds: str | None = None, ca: str | None = None) -> None:
        self._servers, self._options = _parse(url, creds, ca)
        self.name: str = ", ".join(each.partition("//")[2] for each in self._servers)
        self.timeout = timeout
        self.run: str = ""
        self.version: str = ""
        self.max_payload: int = 0
        self.on_lost: list[Callable[[], object]] = []
        self.on_denied: list[Callable[[str], object]] = []
        self._client: DirectClient | None = None
        self._inbox = ""
        self._number = 0
        self._waiting: dict[str, OnAnswer] = {}
        self._failure = ""  # what the client has told last
        self._denied = ""  # what the server does not let this user do
        self._asked: dict[str, str] = {}  # subjects of requests that wait, by where their answers come
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._client is not None

    async def connect(self) -> None:
        """Make a connection.

        Raises:
            LogUnavailable: there is none now.
        """
        client = DirectClient(tls="tls" in self._options)
        self._failure = self._denied = ""

        async def on_error(error: Exception) -> None:
            self._on_error(error)

        async def on_closed() -> None:
            if self._client is client:
                self._lost()

        def take(message: Msg) -> None:
            on_answer = self._waiting.get(message.subject[len(self._inbox) :])
            if on_answer is not None:
                on_answer(message)

        try:
            async with asyncio.timeout(self.timeout):
                await client.connect(
                    self._servers,
                    error_cb=on_error,
                    closed_cb=on_closed,
                    name="newswire",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=max(1, int(self.timeout)),
                    ping_interval=_PING_SECONDS,
                    **self._options,
                )
                client.check_tls(client.server_info)
                self._inbox = f"{client.new_inbox()}."
                await client.listen(f"{self._inbox}*", take)
        except (errors.Error, OSError, ValueError) as error:
            await client.end()
            raise LogUnavailable(f"the server {self.name} {self._explained(error)}") from None
        except BaseException:
            await client.end()
            raise
        info = client.server_info
        self.run = "" if info.get("cluster") else str(info.get("server_id", ""))
        self.version = str(info.get("version", ""))
        self.max_payload = int(info.get("max_payload", 2**20))
        self._client = client

    def expect(self, on_answer: OnAnswer) -> str:
        """A subject for answers: what comes there goes to `on_answer`, until `forget` is called with it."""
        self._number += 1
        token = str(self._number)
        self._waiting[token] = on_answer
        return self._inbox + token

    def forget(self, reply: str) -> None:
        """Expect no more there."""
        self._waiting.pop(reply[len(self._inbox) :], None)

    async def listen(self, on_answer: OnAnswer) -> Listener:
        """Expect what a consumer delivers: it comes under the subjects that it was published to."""
        client = self._client
        if client is None:
            raise LogUnavailable(f"there is no connection to {self.name}")
        reply = client.new_inbox()
        try:
            subscription = await client.listen(reply, on_answer)
        except (errors.Error, OSError) as error:
            self.drop()
            raise LinkLost(f"the connection to {self.name} broke: {text_of(error)}") from None
        self._waiting[reply] = on_answer
        return Listener(self, client, subscription, reply)

    async def send(
        self, subject: str, data: bytes = b"", reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a message. It is on its way when this returns, unless the connection breaks."""
        client = self._client
        if client is None:
            raise LogUnavailable(f"there is no connection to {self.name}")
        size = len(data)
        if headers:  # they count, and the client does not look: the server would end the connection
            size += _HEAD + sum(len(name) + len(value) + _LINE for name, value in headers.items())
        if size > self.max_payload:
            raise LogError(
                f"{self.name} takes messages of up to {counted(self.max_payload, 'byte')}, and this has {size:,}: "
                "publish less at a time, or raise the server's max_payload"
            )
        try:
            await client.publish(subject, data, reply, dict(headers) if headers else None)
        except (errors.Error, OSError) as error:
            self.drop()
            raise LinkLost(f"the connection to {self.name} broke: {text_of(error)}") from None

    async def ask(self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None) -> Msg:
        """Send a request, and wait for its answer.

        Raises:
            LinkLost: it was sent, and there is no answer.
            NoResponders: no one takes such requests now.
        """
        answered: asyncio.Future[Msg | None] = asyncio.get_running_loop().create_future()
        reply = self.expect(lambda message: None if answered.done() else answered.set_result(message))
        self._asked[reply] = subject
        try:
            await self.send(subject, data, reply, headers)
            async with Deadline(self.timeout):
                message = await answered
        except TimeoutError:
            self.drop()
            message = None
        finally:
            self.forget(reply)
            if not self._asked.pop(reply):
                raise self.denied(subject)
        if message is None:
            raise self.lost()
        if is_nobody(message):
            raise NoResponders(f"no one at {self.name} answers to {subject.partition('.STREAM')[0]}")
        return message

    async def collect(self, subject: str, data: bytes, count: int = 0) -> tuple[list[Msg], Mapping[str, str]]:
        """Send a request, and wait for its answers: up to one with a status, or for so many of a consumer.

        Returns:
            the answers, and the headers of the last, if it has a status.
        """
        found: list[Msg] = []
        ended: asyncio.Future[Mapping[str, str] | None] = asyncio.get_running_loop().create_future()

        def take(message: Msg | None) -> None:
            if ended.done():
                return
            if message is None:
                ended.set_result(None)
            elif message.headers and STATUS in message.headers and not message.data:
                ended.set_result(message.headers)
            else:
                found.append(message)
                if len(found) == count:
                    ended.set_result({})

        listener = await self.listen(take) if count else None
        reply = listener.reply if listener else self.expect(take)
        try:
            await self.send(subject, data, reply)
            async with Deadline(self.timeout):
                headers = await ended
        except TimeoutError:
            self.drop()
            headers = None
        finally:
            self.forget(reply)
            if listener:
                await listener.close()
        if headers is None:
            raise self.lost()
        if headers.get(STATUS) == "503":
            raise NoResponders(f"no one at {self.name} answers")
        return found, headers

    async def api(self, name: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream.

        Raises:
            Refused: it says no.
        """
        message = await self.ask(f"$JS.API.{name}", json.dumps(body).encode() if body is not None else b"")
        answer: dict[str, Any] = json.loads(message.data)
        refused(answer)
        return answer

    def lost(self) -> LinkLost:
        """What to raise where an answer will not come."""
        return LinkLost(f"{self.name} did not answer{self._denied and f': {self._denied}'}")

    def denied(self, subject: str) -> LogUnavailable:
        """What to raise for a message to a subject that this user may not publish to."""
        what = f'permissions violation for publish to "{subject}"'
        return LogUnavailable(f"the server {self.name} does not let this user do it: {what}")

    def drop(self) -> None:
        """The connection is of no use any more."""
        if self._client is not None:
            self._lost()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        self.drop()
        if self._ending:
            await asyncio.wait(self._ending)

    def _lost(self) -> None:
        client, self._client = self._client, None
        waiting, self._waiting = self._waiting, {}
        if client is not None:
            ending = asyncio.get_running_loop().create_task(client.end(), name="newswire nats close")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        for on_answer in waiting.values():
            on_answer(None)
        for each in self.on_lost:
            each()

    def _on_error(self, error: Exception) -> None:
        text = text_of(error)
        if "permissions violation" in text.lower():
            self._denied = f"the server does not let this user do it: {text}"
            found = _PUBLISH.search(text)
            if found:
                self._deny(found[1].lower())
        self._failure = text

    def _deny(self, subject: str) -> None:
        for reply in [reply for reply, asked in self._asked.items() if asked.lower() == subject]:
            self._asked[reply] = ""
            on_answer = self._waiting.get(reply[len(self._inbox) :])
            if on_answer is not None:
                on_answer(None)
        for each in self.on_denied:
            each(subject)

    def _explained(self, error: Exception) -> str:
        text = self._failure if isinstance(error, errors.NoServersError) and self._failure else text_of(error)
        if "authorization" in text.lower() or "authentication" in text.lower():
            return f"refuses this user, password or token: {text}"
        return f"can't be reached: {text}"


class Listener:
    """Where a consumer delivers to.

    Attributes:
        reply: the subject.
    """

    def __init__(self, link: NatsLink, client: DirectClient, subscription: Subscription, reply: str) -> None:
        self.reply = reply
        self._link = link
        self._client = client
        self._subscription = subscription

    async def close(self) -> None:
        """Listen no more."""
        self._link._waiting.pop(self.reply, None)
        await self._client.leave(self._subscription)


def is_nobody(message: Msg) -> bool:
    """Whether an answer says that no one takes the request."""
    return not message.data and message.headers is not None and message.headers.get(STATUS) == "503"


def refused(answer: Mapping[str, Any]) -> None:
    """Raise what an answer of JetStream says, if it is an error."""
    error = answer.get("error")
    if error:
        raise NatsRefused(int(error.get("err_code", 0)), str(error.get("description", error.get("code"))))


def _parse(url: str, creds: str | None, ca: str | None) -> tuple[list[str], dict[str, Any]]:
    """Servers without credentials, and the client's options.

    Raises:
        ValueError: the URL can't be used. The message has no password in it.
    """
    options: dict[str, Any] = {}
    try:
        parts = urlsplit(url)
        user, at, hosts = parts.netloc.rpartition("@")
        servers = []
        for host in hosts.split(","):
            place = urlsplit(f"//{host}")
            if not place.hostname:
                raise ValueError
            name = f"[{place.hostname}]" if ":" in place.hostname else place.hostname
            servers.append(f"{parts.scheme}://{name}:{place.port or 4222}")
        if parts.path.strip("/") or parts.query:
            raise ValueError
    except ValueError:  # what it says may have a part of the password
        raise ValueError("this NATS URL can't be used: it is nats://user:password@host:4222 and options") from None
    if at:
        name, colon, password = user.partition(":")
        if colon:
            options |= {"user": unquote(name), "password": unquote(password)}
        else:
            options["token"] = unquote(name)
    if creds is not None:
        if importlib.util.find_spec("nkeys") is None:
            raise ImportError("a credentials file needs nkeys: pip install 'newswire[nats]'")
        options["user_credentials"] = creds
    if parts.scheme == "tls" or ca is not None:
        try:
            options["tls"] = ssl.create_default_context(cafile=ca)
        except OSError as error:  # without the file's name
            raise ValueError(f"ca={ca}: these certificates can't be read: {error.strerror or error}") from None
    return servers, options
