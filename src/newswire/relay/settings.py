"""The settings of `newswire relay`; where they come from is in `newswire.serving.settings`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from newswire.errors import InvalidSetting
from newswire.relay import RelayOptions, Upstream
from newswire.runs import WorkerOptions
from newswire.server.settings import SERVE
from newswire.serving import option_types as values
from newswire.serving.option_types import Kind, Refused
from newswire.serving.settings import Section, ServerSettings, setting

_DEFAULTS: Final = RelayOptions()
_SHORTEST_LEASE: Final = 0.2
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2


def _upstreams() -> Kind:
    """`[NAME=]URL` of each, several with commas between."""

    def read(value: Any) -> tuple[Upstream, ...]:
        parts = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else list(value)
        try:
            found = tuple(Upstream.parse(part) for part in parts if part)
        except ValueError as error:
            raise Refused(str(error)) from None
        if len({upstream.name for upstream in found}) < len(found):
            raise Refused("two have the same name, or none: NAME=URL gives each its own")
        return found

    def show(upstreams: tuple[Upstream, ...]) -> str:
        return ", ".join(f"{each.name}={each.url}" if each.name else each.url for each in upstreams) or "none"

    allowed = "URLs such as https://api.openai.com or NAME=URL, commas between several"
    return Kind(allowed, read, show, metavar="[NAME=]URL", several=", ")


def _headers() -> Kind:
    """Names of headers, several with commas between."""

    def read(value: Any) -> tuple[str, ...]:
        parts = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else list(value)
        found = tuple(part.lower() for part in parts if part not in ("", "none"))
        if not all(_HEADER.fullmatch(name) for name in found):
            raise ValueError(value)
        return found

    allowed = "names of headers such as x-my-key, commas between several"
    return Kind(allowed, read, lambda names: ", ".join(names) or "none", metavar="NAME", several=", ")


@dataclass(frozen=True, kw_only=True)
class RelaySettings(ServerSettings):
    """How `newswire relay` behaves. Times are in seconds, sizes in bytes; None switches a limit off."""

    upstreams: tuple[Upstream, ...] = setting(
        (),
        _upstreams(),
        "The API, without the path that clients add: https://api.openai.com. With a name it is at /NAME/. Repeatable; "
        "requests go nowhere else.",
    )
    port: int = setting(8100, values.number(0, 65535), "The port to listen on; 0 takes a free one.")
    keep_for: float | None = setting(_DEFAULTS.keep_for, values.duration(), "What an answer, and its key, is kept for.")
    timeout: float | None = setting(
        _DEFAULTS.timeout, values.duration(optional=True), "An answer that takes longer fails."
    )
    connect_timeout: float = setting(_DEFAULTS.connect_timeout, values.duration(), "What connecting may take.")
    idle_timeout: float | None = setting(
        _DEFAULTS.idle_timeout, values.duration(optional=True), "An upstream silent for so long has failed."
    )
    compact_after: float | None = setting(
        _DEFAULTS.compact_after,
        values.duration(optional=True),
        "Keep an answer in fewer rows of the log from then on.",
    )
    abandon_after: float | None = setting(
        _DEFAULTS.abandon_after, values.duration(optional=True), "Stop an answer nobody reads for so long."
    )
    max_body: int = setting(_DEFAULTS.max_body, values.size(1, 2**30), "The largest request for a completion.")
    body_timeout: float = setting(
        _DEFAULTS.body_timeout, values.duration(), "How long a client may take to send a body."
    )
    cookies: bool = setting(_DEFAULTS.cookies, values.switch(), "Let cookies through, both ways.")
    credential_headers: tuple[str, ...] = setting(
        _DEFAULTS.credential_headers,
        _headers(),
        "A further header that carries a credential: it tells whose a run is, and is never kept. Repeatable.",
    )
    shared: bool = setting(
        _DEFAULTS.shared,
        values.switch(),
        "Clients without credentials share their idempotency keys.",
    )
    lease: float = setting(
        WorkerOptions().lease,
        values.duration(least=_SHORTEST_LEASE),
        "A worker not heard for so long has died.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.upstreams:
            allowed = "at least one API: --upstream https://api.openai.com, or upstreams below [relay] in newswire.toml"
            raise InvalidSetting("settings", "upstreams", "none", allowed, why=f"a relay needs {allowed}")

    @property
    def options(self) -> RelayOptions:
        """How completions behave."""
        return RelayOptions(**{name: getattr(self, name) for name in RelayOptions.__dataclass_fields__})


RELAY: Final = Section(RelaySettings, "relay", SERVE)
