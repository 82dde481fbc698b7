"""API keys: credentials of programs that publish, which don't expire. Their file has hashes only.

A key is `nwk_ID_SECRET`. The secret has 256 random bits, so one SHA-256 is as good as a slow hash: no one can guess it.
The file has one JSON object a line, as `newswire key` writes it. It is read again when it changes, so a key whose line
was removed is refused a second later.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from newswire.delivery.ticket_request import check_subject
from newswire.server.auth.access import Access
from newswire.server.auth.patterns import read_grants
from newswire.server.auth.tokens import FOREVER, invalid
from newswire.wire.payload import is_writable

logger: logging.Logger = logging.getLogger("newswire.server")

PREFIX: Final = "nwk_"
_LOOK: Final = 1.0  # seconds between two looks at the file
_MEMBERS: Final = frozenset({"id", "hash", "sub", "subscribe", "publish", "admin", "created"})


class ApiKeys:
    """The keys of a file.

    Args:
        path: the file.

    Raises:
        ValueError: it can't be read, or has a line that is no key; the message is for people.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._keys, self._seen = self._read()
        self._due = time.monotonic() + _LOOK

    def _read(self) -> tuple[dict[str, tuple[bytes, Access]], tuple[int, int, int]]:
        try:
            state = self._path.stat()
            lines = self._path.read_text("utf-8-sig").split(
                "\n"
            )  # `str.splitlines` would cut in a subject's U+2028 too
        except OSError as error:
            raise ValueError(f"it can't be read: {(error.strerror or str(error)).lower()}") from None
        except UnicodeDecodeError:
            raise ValueError("it can't be read: it is not UTF-8") from None
        keys = {}
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                try:
                    id, digest, access = _read_line(line)
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                    why = "it is no JSON" if isinstance(error, json.JSONDecodeError) else str(error)
                    why = f"{error} is missing" if isinstance(error, KeyError) else why
                    raise ValueError(f"line {number} is no key as `newswire key` writes it: {why}") from None
                keys[id] = (digest, access)
        return keys, (state.st_mtime_ns, state.st_ino, state.st_size)

    def verify(self, text: str) -> Access:
        """What a key grants.

        Raises:
            Denied: there is no such key.
        """
        if time.monotonic() >= self._due:
            self._look()
        id = text.removeprefix(PREFIX).partition("_")[0]
        digest, access = self._keys.get(id, (b"", None))
        if not hmac.compare_digest(digest, _digest(text)) or access is None:
            raise invalid("unknown_key", "there is no such API key")
        return access

    def _look(self) -> None:
        self._due = time.monotonic() + _LOOK
        try:
            state = os.stat(self._path)
            if not stat.S_ISREG(state.st_mode):  # a pipe was read to its end at the start, and would hold up the server
                raise ValueError("it is no file that can be read again")
            if (state.st_mtime_ns, state.st_ino, state.st_size) != self._seen:
                self._keys, self._seen = self._read()
                logger.info("%s has changed: it has %d API keys", self._path, len(self._keys))
        except (OSError, ValueError) as error:
            logger.error("%s has changed, and the API keys that were known stay: %s", self._path, error)


def _read_line(line: str) -> tuple[str, bytes, Access]:
    value: Any = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if unknown := value.keys() - _MEMBERS:
        raise ValueError(f"there is no member {min(unknown)!r}")
    if not isinstance(subject := value.get("sub"), str | None) or not is_writable(f"{subject}{value['id']}"):
        raise ValueError("its id and its sub are no texts that UTF-8 can write")
    if subject is not None:
        check_subject(subject)
    algorithm, _, digest = str(value["hash"]).partition(":")
    if algorithm != "sha256" or len(bytes.fromhex(digest)) != 32:
        raise ValueError("its hash is not of the form sha256:…")
    created = float(value.get("created", 0.0))
    if not 0 <= created < FOREVER:  # its subject could never be revoked
        raise ValueError("its created is no time in seconds")
    access = Access(
        subject=subject,
        token=str(value["id"]),
        issued=created,
        subscribe=read_grants(value.get("subscribe")),
        publish=read_grants(value.get("publish")),
        admin=value.get("admin") is True,
        kind="key",
    )
    return str(value["id"]), bytes.fromhex(digest), access


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def new_key(
    subject: str, *, subscribe: Sequence[str] = (), publish: Sequence[str] = (), admin: bool = False
) -> tuple[str, str]:
    """Make an API key.

    Args:
        subject: whose it is.
        subscribe, publish: channel patterns.
        admin: whether it may observe and revoke.

    Returns:
        the key, for its holder, and the line for the server's file.

    Raises:
        ValueError: the subject is empty, too long, or no text that UTF-8 can write.
    """
    check_subject(subject)
    id = secrets.token_hex(6)
    key = f"{PREFIX}{id}_{secrets.token_urlsafe(32)}"
    members: dict[str, Any] = {"id": id, "hash": f"sha256:{_digest(key).hex()}", "sub": subject}
    members |= {"created": round(time.time(), 3)}
    members |= {"subscribe": list(subscribe)} if subscribe else {}
    members |= {"publish": list(publish)} if publish else {}
    members |= {"admin": True} if admin else {}
    return key, json.dumps(members)


def add_line(path: Path, line: str) -> None:
    """Add a key's line to a file, which is made, for its owner alone, if it is not there.

    Raises:
        OSError: it can't be written.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+b") as file:
        begin = b""
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            begin = b"" if file.read(1) == b"\n" else b"\n"  # else a last line without an end would hold both keys
        file.write(begin + line.encode() + b"\n")
