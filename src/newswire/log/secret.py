"""A secret that all processes with the same log share, kept in a channel of its own.

Runs make their ids with one, and tickets are signed with another. The first process that needs it makes it.
"""

from __future__ import annotations

import secrets

from newswire.log.channels import Channels
from newswire.log.engine import Condition
from newswire.log.log import Log
from newswire.wire.event import Event


async def secret_of(log: Log, channel: str) -> bytes:
    """The secret in an internal channel, as 64 ASCII characters.

    Raises:
        LogError: the log can't be read, or can't store it.
    """
    while True:
        [entry] = await log.newest([channel])
        if entry is not None:
            return entry.data.encode()
        # Nothing was ever stored there, or a retention rule of the application's own has removed it.
        lost = (await log.read(Channels([channel]), 0, 1)).lost
        await log.append_if([(channel, Event(secrets.token_hex(32), "secret"))], Condition(channel, lost))
