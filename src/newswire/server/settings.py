"""The settings of the standalone server; where they come from is in `newswire.cli.settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from newswire.hub.options import StreamOptions
from newswire.log.channels import MAX_CHANNEL_BYTES
from newswire.log.retention import DEFAULT_RETENTION, Retention
from newswire.serving import option_types
from newswire.serving.settings import ServerSettings, setting

_DEFAULT_AGE: Final = option_types.duration().show(DEFAULT_RETENTION.max_age)


@dataclass(frozen=True, kw_only=True)
class Settings(ServerSettings):
    """How `newswire serve` behaves. Times are in seconds, sizes in bytes; None switches a limit off."""

    retention: Mapping[str, Retention] | None = setting(
        None,
        option_types.retention(),
        "What to keep, by channel pattern: 'orders.>:max_age=7d,max_events=1000'; 'none' keeps all; 'default' keeps "
        f"the events of a file for {_DEFAULT_AGE}.",
    )
    max_body: int = setting(2**20, option_types.size(1, 64 * 2**20), "The largest body of a publish request.")
    max_batch: int = setting(10_000, option_types.number(1, 10**6), "Events in one NDJSON batch.")
    max_channels: int = setting(100, option_types.number(1, 10_000), "Channels and patterns on one stream.")
    max_channel_bytes: int = setting(
        MAX_CHANNEL_BYTES, option_types.number(1, MAX_CHANNEL_BYTES), "The longest channel name, in bytes of UTF-8."
    )
    max_streams: int = setting(50_000, option_types.number(1, 10**7), "Open streams in one process; more get a 503.")
    body_timeout: float = setting(30.0, option_types.duration(), "How long a client may take to send a body.")
    retry: int = setting(
        3000, option_types.number(0, 10**9), "Milliseconds after which a client reconnects (`retry:`)."
    )
    no_opening: bool = setting(
        False, option_types.switch(), "Begin streams without the block that has no data, for readers that choke on it."
    )
    write_timeout: float | None = setting(
        30.0, option_types.duration(optional=True), "A client that takes nothing for so long is cut."
    )
    max_age: float | None = setting(
        None, option_types.duration(optional=True), "Streams end after so long, with a goodbye; clients come back."
    )
    drain: Literal["goodbye", "drain"] = setting(
        "goodbye",
        option_types.text("goodbye or drain", "goodbye", "drain"),
        "On SIGTERM: every stream says goodbye at once, or finite ones may end by themselves first.",
    )

    @property
    def kept(self) -> Mapping[str, Retention] | None:
        """See `ServerSettings.kept`."""
        return self.retention

    @property
    def stream(self) -> StreamOptions:
        """How each stream behaves."""
        return StreamOptions(
            heartbeat=self.heartbeat,
            retry=self.retry,
            opening=not self.no_opening,
            write_timeout=self.write_timeout,
            max_age=self.max_age,
        )
