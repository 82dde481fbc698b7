"""The settings of the standalone server; where they come from is in `newswire.cli.settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from newswire.errors import InvalidSetting
from newswire.hub.options import PresenceOptions, StreamOptions
from newswire.log.channels import MAX_CHANNEL_BYTES
from newswire.log.retention import DEFAULT_RETENTION, Retention
from newswire.server.auth.api_keys import ApiKeys
from newswire.server.auth.authority import COOKIE
from newswire.server.auth.jwks import JwksUrl
from newswire.server.auth.keys import read_keys, secret_key
from newswire.server.auth.tokens import Tokens
from newswire.serving import option_types
from newswire.serving.option_types import SlowRule
from newswire.serving.settings import ServerSettings, setting

if TYPE_CHECKING:
    from newswire.contract.contract import Contract

_DEFAULT_AGE: Final = option_types.duration().show(DEFAULT_RETENTION.max_age)


@dataclass(frozen=True, kw_only=True)
class Settings(ServerSettings):
    """How `newswire serve` behaves. Times are in seconds, sizes in bytes; None switches a limit off."""

    reloadable: ClassVar[frozenset[str]] = frozenset(
        (
            *("max_body", "max_batch", "max_channels", "max_channel_bytes", "body_timeout", "publish_rate"),
            *("slow", "max_lag", "max_streams", "max_streams_per_subject", "max_streams_per_address"),
            *("heartbeat", "heartbeat_padding", "retry", "no_opening", "write_timeout", "max_age", "drain", "compress"),
            *("jwt_secret", "jwt_key", "jwks_url", "jwt_audience", "jwt_issuer", "jwt_algorithm", "jwt_leeway"),
            *("api_keys", "anonymous", "edge_key", "metrics_token"),
        )
    )

    retention: Mapping[str, Retention] | None = setting(
        None,
        option_types.retention(),
        "What to keep, by channel pattern: 'orders.>:max_age=7d,max_events=1000'; 'none' keeps all; 'default' keeps "
        f"the events of a file for {_DEFAULT_AGE}.",
    )
    latest: tuple[str, ...] = setting(
        (),
        option_types.patterns(),
        "Channels whose newest event is their state, such as 'prices.*'; a reader gets it first. See docs/latest.md. "
        "Repeatable.",
    )
    presence: tuple[str, ...] = setting(
        (),
        option_types.patterns(),
        "Channels that have members, such as 'room.*': who is there. See docs/presence.md. Repeatable.",
    )
    presence_heartbeat: float = setting(
        10.0, option_types.duration(), "A server that gives no heartbeat for so long is dead, and its members leave."
    )
    presence_grace: float = setting(
        5.0, option_types.duration(), "A member whose stream has ended leaves after so long, unless it comes back."
    )
    max_state: int = setting(1024, option_types.size(1, 64 * 2**10), "The largest state of a member, as JSON.")
    state_rate: int = setting(
        20, option_types.number(1, 1000), "Times a second that a member may send its state; more get a 429."
    )
    contract: str | None = setting(
        None,
        option_types.optional(option_types.text("a contract, as MODULE:CONTRACT")),
        "Accept only events of this contract, such as 'shop.events:events'. Python looks in this folder first.",
    )
    max_body: int = setting(2**20, option_types.size(1, 64 * 2**20), "The largest body of a publish request.")
    max_batch: int = setting(10_000, option_types.number(1, 10**6), "Events in one NDJSON batch.")
    max_channels: int = setting(100, option_types.number(1, 10_000), "Channels and patterns on one stream.")
    max_channel_bytes: int = setting(
        MAX_CHANNEL_BYTES, option_types.number(1, MAX_CHANNEL_BYTES), "The longest channel name, in bytes of UTF-8."
    )
    max_streams: int = setting(50_000, option_types.number(1, 10**7), "Open streams in one process; more get a 503.")
    max_streams_per_subject: int | None = setting(
        None,
        option_types.optional(option_types.number(1, 10**7)),
        "Open streams of one user (`sub`) in one process; more get a 429.",
    )
    max_streams_per_address: int | None = setting(
        None,
        option_types.optional(option_types.number(1, 10**7)),
        "Open streams of one address in one process; more get a 429.",
    )
    publish_rate: int | None = setting(
        None,
        option_types.optional(option_types.number(1, 10**9)),
        "Events a second that one user, or else one address, may publish to one process; more get a 429.",
    )
    body_timeout: float = setting(30.0, option_types.duration(), "How long a client may take to send a body.")
    retry: int = setting(
        3000, option_types.number(0, 10**9), "Milliseconds after which a client reconnects (`retry:`)."
    )
    no_opening: bool = setting(
        False,
        option_types.switch(),
        "Leave out the block without data that streams begin with, for clients that can't read it.",
    )
    write_timeout: float | None = setting(
        30.0, option_types.duration(optional=True), "Cut the connection of a client that reads nothing for so long."
    )
    max_age: float | None = setting(
        None,
        option_types.duration(optional=True),
        "End each stream after so long, with a goodbye; its client connects again.",
    )
    slow: Mapping[str, SlowRule] | None = setting(
        None,
        option_types.slow_rules(),
        "What happens to slow readers, by channel pattern. With 'prices.>:max_behind=1000,timeout=5s' a reader that is "
        "more than 1000 events behind goes on with the newest ones, after a gap, and one that reads nothing for 5 s is "
        "cut.",
    )
    max_lag: float | None = setting(
        None,
        option_types.duration(optional=True),
        "Answer new streams with a 503 while the event loop is late by more than this.",
    )
    edge_key: str | None = setting(
        None,
        option_types.header_secret(),
        "Other servers with this key may use the whole log of this one: --log https://:KEY@HOST/.",
    )
    jwt_secret: str | None = setting(
        None, option_types.secret(), "Accept tokens (JWT) that are signed with this secret: HS256, HS384, HS512."
    )
    jwt_key: tuple[str, ...] = setting(
        (), option_types.files(), "Accept tokens of the key in this file: a public key (PEM) or a JWK Set. Repeatable."
    )
    jwks_url: str | None = setting(
        None,
        option_types.optional(option_types.text("a URL of http:// or https://")),
        "Accept tokens of the keys that an identity provider publishes at this URL (a JWK Set).",
    )
    jwt_audience: tuple[str, ...] = setting(
        (),
        option_types.several("names, commas between several, or 'none'", "NAME", str),
        "Accept only tokens for this audience (`aud`). Repeatable.",
    )
    jwt_issuer: str | None = setting(
        None, option_types.optional(option_types.text("a name or URL")), "Accept only tokens of this issuer (`iss`)."
    )
    jwt_algorithm: tuple[str, ...] = setting(
        (),
        option_types.several("algorithms such as RS256, commas between several, or 'none'", "NAME", str),
        "Accept only tokens signed with this algorithm; without it, with any that suits the keys. Repeatable.",
    )
    jwt_leeway: float | None = setting(
        None,
        option_types.duration(optional=True),
        "How much the clocks of those that make tokens may differ from this one.",
    )
    api_keys: str | None = setting(
        None,
        option_types.optional(option_types.text("the path of a file")),
        "Accept the API keys in this file, which `newswire key` writes.",
    )
    anonymous: tuple[str, ...] = setting(
        (), option_types.patterns(), "Channels that anyone may subscribe to without a credential. Repeatable."
    )
    auth_cookie: str = setting(
        COOKIE,
        option_types.cookie_name(),
        "The cookie that may have a token.",
    )
    drain: Literal["goodbye", "drain"] = setting(
        "goodbye",
        option_types.text("goodbye or drain", "goodbye", "drain"),
        "On SIGTERM: end every stream with a goodbye at once, or let those that have an end come to it first.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(isinstance(rule, SlowRule) for rule in (self.slow or {}).values()):
            raise InvalidSetting(
                "Settings(slow=...)", "slow", self.slow, "a mapping from channel patterns to SlowRules"
            )
        self.keys()
        self.tokens()  # what is wrong with the keys shows at the start
        self.loaded_contract()

    def loaded_contract(self) -> Contract[Any] | None:
        """The contract of all channels, if there is one.

        Raises:
            InvalidSetting: it can't be found.
        """
        if self.contract is None:
            return None
        from newswire.contract.contract import load  # a server without a contract imports nothing of them

        try:
            return load(self.contract)
        except (ValueError, TypeError) as error:
            raise InvalidSetting("settings", "contract", self.contract, "", why=str(error)) from None

    @property
    def authenticates(self) -> bool:
        """See `ServerSettings.authenticates`."""
        return bool(self.anonymous) or self.api_keys is not None or self._has_keys

    @property
    def _has_keys(self) -> bool:
        return self.jwt_secret is not None or bool(self.jwt_key) or self.jwks_url is not None

    def tokens(self) -> Tokens | None:
        """Which tokens are good; None: no key is configured, so none is.

        Raises:
            InvalidSetting: a key can't be used.
        """
        if not self._has_keys:
            return None
        name, value = "jwt_secret", "(set)"
        try:
            import jwt as _  # noqa: F401

            keys = [] if self.jwt_secret is None else [secret_key(self.jwt_secret)]
            for value in self.jwt_key:
                name = "jwt_key"
                keys += read_keys(value)
            name, value = "jwks_url", self.jwks_url or ""
            url = None if self.jwks_url is None else JwksUrl(self.jwks_url)
            name, value = "jwt_algorithm", ", ".join(self.jwt_algorithm)
            return Tokens(
                keys,
                url=url,
                audiences=self.jwt_audience,
                issuer=self.jwt_issuer,
                algorithms=self.jwt_algorithm,
                leeway=self.jwt_leeway or 0.0,
            )
        except ModuleNotFoundError as error:
            why = f"tokens need {error.name}, which is not installed: pip install 'newswire[auth]'"
            raise InvalidSetting("settings", name, value, "", why=why) from None
        except ValueError as error:
            raise InvalidSetting("settings", name, value, "", why=f"{value!r:.100} can't be used: {error}") from None

    def keys(self) -> ApiKeys | None:
        """The API keys; None: there is no file of them.

        Raises:
            InvalidSetting: the file can't be used.
        """
        try:
            return None if self.api_keys is None else ApiKeys(self.api_keys)
        except ValueError as error:
            why = f"{self.api_keys!r:.100} can't be used: {error}"
            raise InvalidSetting("settings", "api_keys", self.api_keys, "", why=why) from None

    @property
    def presence_options(self) -> PresenceOptions:
        """How it knows who is on a channel."""
        return PresenceOptions(heartbeat=self.presence_heartbeat, grace=self.presence_grace, max_state=self.max_state)

    @property
    def kept(self) -> Mapping[str, Retention] | None:
        """See `ServerSettings.kept`."""
        return self.retention

    @property
    def stream(self) -> StreamOptions:
        """How each stream behaves."""
        return StreamOptions(
            heartbeat=self.heartbeat,
            heartbeat_padding=self.heartbeat_padding,
            retry=self.retry,
            opening=not self.no_opening,
            write_timeout=self.write_timeout,
            max_age=self.max_age,
            compress=self.compress,
        )
