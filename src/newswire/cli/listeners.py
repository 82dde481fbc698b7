"""The sockets that a command serves on: bound here, or handed over by a supervisor that keeps them over restarts.

A supervisor (systemd with a `.socket` unit, or any other parent process) binds a socket and starts the server with it.
When the server ends, the socket lives on: connections wait in the kernel until the next server accepts them, so a
restart refuses none. `--fd` says which file descriptor it is. systemd's own way needs no flag: it sets `LISTEN_PID` and
`LISTEN_FDS` (sd_listen_fds(3)).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

import click

from newswire import posix
from newswire.reason import reason

# A reconnect storm has to wait somewhere; the kernel caps this at net.core.somaxconn.
BACKLOG: Final = 4096
_FIRST: Final = 3  # sd_listen_fds(3): "SD_LISTEN_FDS_START (3)"
_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def listen(host: str, port: int, fd: int | None = None) -> tuple[list[socket.socket], bool]:
    """Returns the sockets to serve on, and whether they were handed over; if not, it is one that is bound now.

    Args:
        host, port: what to bind, if nothing was handed over.
        fd: a file descriptor that this process was started with; None: those of systemd, if there are any.

    Raises:
        click.ClickException: there is none to use; the message says why.
    """
    passed = _of_systemd()
    if fd is not None:
        return [_inherited(fd, f"--fd {fd}")], True
    if passed:
        return [_inherited(each, f"LISTEN_FDS, file descriptor {each},") for each in passed], True
    return [bind(host, port)], False


def _of_systemd() -> Sequence[int]:
    """The descriptors that systemd passes. The variables are taken away: they are not for our own children."""
    pid, count, _ = (os.environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or not count.isascii() or not count.isdecimal():
        return ()
    return range(_FIRST, _FIRST + int(count))


def _inherited(fd: int, source: str) -> socket.socket:
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        if error.errno == errno.ENOTSOCK:
            raise click.ClickException(f"{source} is no socket: pass one that listens") from None
        what = "is not open: whoever starts this command has to pass it on (pass_fds in Python)"
        raise click.ClickException(f"{source} {what}; {(error.strerror or '').lower()}") from None
    if listener.type != socket.SOCK_STREAM or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise click.ClickException(
            f"{source} is a socket that does not listen: call listen() before it is passed on (ListenStream= and "
            "Accept=no in systemd's unit)"
        )
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


def bind(host: str, port: int) -> socket.socket:
    """Take the port.

    Raises:
        click.ClickException: it can't be taken; the message says why.
    """
    family, kind, proto, _, address = _addresses(host, port)[0]
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)  # connections wait while the application starts
    except OSError as error:
        listener.close()
        raise click.ClickException(_why_not(host, port, error)) from None
    listener.set_inheritable(True)
    return listener


def _addresses(host: str, port: int | None) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise click.ClickException(
            f"{host} is no address of this machine ({reason(error)}): choose another with --host"
        ) from None


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use: stop what listens there, or choose another with --port (0: any free "
            "one). Without --port, `newswire serve` and `run` take 8000 and `relay` takes 8100"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs special rights: choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: choose another with --host"
    return f"{host}:{port} can't be listened on: {reason(error)}"


def address_of(listener: socket.socket) -> tuple[str, int] | None:
    """The address and the port that a socket listens on; None: it is a Unix socket."""
    if listener.family == posix.AF_UNIX:
        return None
    host, port, *_ = listener.getsockname()
    return str(host), int(port)


def urls_of(listeners: Sequence[socket.socket], host: str | None, *, tls: bool = False) -> str:
    """The URL to tell people, with the port that was really taken; of several sockets, all.

    Args:
        listeners: the sockets.
        host: what they were bound to, in the user's words; None: they were handed over.
        tls: whether they speak HTTPS.
    """
    found = []
    for listener in listeners:
        address = address_of(listener)
        if address is None:
            found.append(f"unix:{listener.getsockname() or '(without a name)'}")
            continue
        name = address[0] if host is None else host
        shown = f"[{name}]" if ":" in name else name
        found.append(f"{'https' if tls else 'http'}://{shown}:{address[1]}")
    return " and ".join(found)


def is_public(host: str) -> bool:
    """Whether an address can be reached from other machines.

    Raises:
        click.ClickException: there is no such address.
    """
    found = _addresses(host, None)
    return not all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
