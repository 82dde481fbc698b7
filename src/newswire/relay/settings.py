"""The settings of `newswire relay`; where they come from is in `newswire.cli.settings`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from newswire.errors import InvalidSetting
from newswire.relay import RelayOptions, Upstream
from newswire.runs import WorkerOptions
from newswire.serving import option_types
from newswire.serving.option_types import OptionType, RefusedValue
from newswire.serving.settings import ServerSettings, setting

_DEFAULTS: Final = RelayOptions()
_SHORTEST_LEASE: Final = 0.2
_HEADER: Final = r"[!#$%&'*+.^_`|~0-9a-z-]+"  # RFC 9110, section 5.6.2


def _upstreams() -> OptionType:
    """`[NAME=]URL` of each, several with commas between."""
    allowed = "URLs such as https://api.openai.com or NAME=URL, commas between several"
    several = option_types.several(
        allowed, "[NAME=]URL", Upstream.parse, lambda one: f"{one.name}={one.url}" if one.name else one.url
    )

    def read(value: Any) -> tuple[Upstream, ...]:
        try:
            found: tuple[Upstream, ...] = several.read(value)
        except ValueError as error:
            raise RefusedValue(str(error)) from None
        if len({upstream.name for upstream in found}) < len(found):
            raise RefusedValue("two have the same name, or none: NAME=URL gives each its own")
        return found

    return replace(several, read=read)


@dataclass(frozen=True, kw_only=True)
class RelaySettings(ServerSettings):
    """How `newswire relay` behaves. Times are in seconds, sizes in bytes; None switches a limit off."""

    section: ClassVar[str] = "relay"

    upstreams: tuple[Upstream, ...] = setting(
        (),
        _upstreams(),
        "The API, without the path that clients add: https://api.openai.com. With a name it is at /NAME/. Repeatable; "
        "requests go nowhere else.",
    )
    port: int = setting(8100, option_types.number(0, 65535), "The port to listen on; 0 takes a free one.")
    keep_for: float | None = setting(
        _DEFAULTS.keep_for, option_types.duration(), "How long an answer and its key are kept after it ended."
    )
    timeout: float | None = setting(
        _DEFAULTS.timeout, option_types.duration(optional=True), "An answer that takes longer fails."
    )
    connect_timeout: float = setting(
        _DEFAULTS.connect_timeout, option_types.duration(), "How long connecting to the upstream may take."
    )
    idle_timeout: float | None = setting(
        _DEFAULTS.idle_timeout,
        option_types.duration(optional=True),
        "An answer fails when its upstream sends nothing for so long.",
    )
    compact_after: float | None = setting(
        _DEFAULTS.compact_after,
        option_types.duration(optional=True),
        "After its end and this time, keep an answer in fewer rows of the log.",
    )
    abandon_after: float | None = setting(
        _DEFAULTS.abandon_after,
        option_types.duration(optional=True),
        "Stop an answer that has had no reader for so long.",
    )
    max_body: int = setting(_DEFAULTS.max_body, option_types.size(1, 2**30), "The largest request for a completion.")
    body_timeout: float = setting(
        _DEFAULTS.body_timeout, option_types.duration(), "How long a client may take to send a body."
    )
    cookies: bool = setting(_DEFAULTS.cookies, option_types.switch(), "Let cookies through, both ways.")
    credential_headers: tuple[str, ...] = setting(
        _DEFAULTS.credential_headers,
        option_types.several(
            "names of headers such as x-my-key, commas between several", "NAME", option_types.matching(_HEADER)
        ),
        "A further header that carries a credential: it tells whose a run is, and is never kept. Repeatable.",
    )
    shared: bool = setting(
        _DEFAULTS.shared,
        option_types.switch(),
        "Clients without credentials share their idempotency keys.",
    )
    lease: float = setting(
        WorkerOptions().lease,
        option_types.duration(least=_SHORTEST_LEASE),
        "A worker that gives no heartbeat for so long has died.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.upstreams:
            allowed = "at least one API: --upstream https://api.openai.com, or upstreams below [relay] in newswire.toml"
            raise InvalidSetting("settings", "upstreams", "none", allowed, why=f"a relay needs {allowed}")
        if not all(isinstance(each, Upstream) for each in self.upstreams):
            raise InvalidSetting("RelaySettings(upstreams=...)", "upstreams", self.upstreams, "a list of Upstreams")

    @property
    def options(self) -> RelayOptions:
        """How completions behave."""
        return RelayOptions(**{name: getattr(self, name) for name in RelayOptions.__dataclass_fields__})
