"""What the settings of all served applications have in common.

Each setting is a field of a frozen dataclass, with its type and its help. From these the command line makes its flags,
the environment's variables, the keys of `newswire.toml` and `--show-config` (`newswire.cli.settings`). An application
that is served in another way makes the dataclass itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Final, Literal

from newswire.errors import InvalidSetting
from newswire.log.open import open_log
from newswire.log.retention import Retention
from newswire.serving import option_types
from newswire.serving.option_types import OptionType

SECTIONS: Final = ("relay",)
"""The tables of `newswire.toml`. A command without a section has the plain names."""


def setting(default: Any, kind: OptionType, help: str) -> Any:
    """A field of settings."""
    return field(default=default, metadata={"type": kind, "help": help}, repr=kind.metavar != "SECRET")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What every server has. Times are in seconds; None switches a limit off."""

    section: ClassVar[str] = ""
    reloadable: ClassVar[frozenset[str]] = frozenset()  # what may change while a server runs

    log: str = setting(
        "sqlite:///newswire.db",
        option_types.text(
            "the URL of a log: sqlite:///path.db, redis://host:6379/0, https://origin.example/ or memory://"
        ),
        "The log's URL.",
    )
    host: str = setting("127.0.0.1", option_types.text("an address or a host name"), "The address to listen on.")
    port: int = setting(8000, option_types.number(0, 65535), "The port to listen on; 0 takes a free one.")
    fd: int | None = setting(
        None,
        option_types.optional(option_types.number(3, 2**20)),
        "Listen on this file descriptor, a socket that a supervisor has bound and keeps over restarts, instead of host "
        "and port. systemd's sockets need no flag.",
    )
    workers: int = setting(1, option_types.number(1, 512), "Processes; they share the log and the port.")
    insecure: bool = setting(
        False, option_types.switch(), "Listen on a public address although it asks no client for credentials."
    )
    cors_origins: tuple[str, ...] = setting(
        (), option_types.origins(), "Web pages of these origins may use the server too; '*' for all. Repeatable."
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        option_types.hosts(),
        "Answer to these names too, beside localhost and the address to listen on; '*' for all. Repeatable.",
    )
    trusted_proxy: tuple[str, ...] = setting(
        (),
        option_types.networks(),
        "Believe the X-Forwarded headers of a proxy at this address or in this network. Repeatable.",
    )
    heartbeat: float | None = setting(
        15.0,
        option_types.duration(optional=True),
        "Send a comment (a heartbeat) on a stream that was silent for so long.",
    )
    heartbeat_padding: int = setting(
        0,
        option_types.size(0, 64 * 2**10),
        "Make heartbeats longer by so many bytes, for proxies that hold back small writes.",
    )
    compress: bool = setting(
        False,
        option_types.switch(),
        "Send gzip to clients that take it; each event is compressed once for all of them.",
    )
    keep_alive: float = setting(
        5.0,
        option_types.duration(),
        "Close a connection that has had no request for so long. Behind a load balancer this has to be longer than its "
        "own idle timeout.",
    )
    grace: float = setting(10.0, option_types.duration(), "How long streams may take to end when the server stops.")
    metrics_token: str | None = setting(
        None, option_types.header_secret(), "Only requests with this token, and admins, may read /metrics."
    )
    otel: bool = setting(
        False, option_types.switch(), "Trace streams and publishes, and offer metrics, by OpenTelemetry."
    )
    log_format: Literal["text", "json"] = setting(
        "text",
        option_types.text("text or json", "text", "json"),
        "How the server writes its log: for people, or one JSON object a line.",
    )
    access_log: bool = setting(False, option_types.switch(), "Write a line for each request.")

    def __post_init__(self) -> None:
        for one in fields(self):
            _check(f"{type(self).__name__}({one.name}=...)", one, getattr(self, one.name))
        try:
            open_log(self.log, retention=self.kept)
        except (ValueError, ImportError) as error:
            raise InvalidSetting("settings", "log", self.log, "the URL of a log", why=str(error)) from None
        if self.otel:
            try:
                import newswire.otel  # noqa: F401
            except ModuleNotFoundError as error:
                why = f"this needs {error.name}, which is not installed: pip install 'newswire[otel]'"
                raise InvalidSetting("settings", "otel", True, "", why=why) from None
        if self.workers > 1 and self.log.startswith("memory:"):
            why = (
                f"{self.workers} processes can't share a log in memory, each would have its own: use "
                "sqlite:///newswire.db, or one process"
            )
            raise InvalidSetting("settings", "workers", self.workers, "1", why=why)

    def may_wait(self, error: Exception) -> bool:
        """Whether an error of the log is one to wait for: the log is another newswire server's, which is away."""
        if not self.log.startswith(("http://", "https://")):
            return False
        from newswire.edge.origin import OriginAway  # an extra

        return isinstance(error, OriginAway)

    @property
    def authenticates(self) -> bool:
        """Whether clients need credentials."""
        return False

    @property
    def kept(self) -> Mapping[str, Retention] | None:
        """What the log keeps, by channel pattern; None: see `newswire.open_log`."""
        return None

    @classmethod
    def variable(cls, name: str) -> str:
        """A setting's variable of the environment."""
        return "_".join(part for part in ("NEWSWIRE", cls.section.upper(), name.upper()) if part)


def _check(source: str, one: Field[Any], value: Any) -> None:
    """Check a setting that an application gives: it is one that its type would make of a text.

    Raises:
        InvalidSetting: it is not. A flag's, a variable's or a file's value has been read already, and is one.
    """
    kind = type_of(one)
    if value is one.default or isinstance(value, Mapping):  # rules, which whoever applies them checks
        return
    try:
        if value is None:
            good = kind.read("none") is None
        elif isinstance(value, (list, tuple)):
            texts = [each for each in value if isinstance(each, str)]
            others = [each for each in value if not isinstance(each, str)]  # what was read already
            good = isinstance(kind.read(texts), tuple) and all(type(each).__module__ != "builtins" for each in others)
        else:
            good = kind.read(value) == value
    except (ValueError, TypeError, AttributeError, KeyError):
        good = False
    if not good:
        shown = "(secret)" if kind.metavar == "SECRET" else value
        raise InvalidSetting(source, one.name, shown, kind.allowed)


def type_of(one: Field[Any]) -> OptionType:
    """The type of a setting."""
    kind = one.metadata["type"]
    assert isinstance(kind, OptionType)
    return kind


def flag_of(one: Field[Any]) -> str:
    """A setting's flag; in the singular if it may be given several times: `--upstream` for `upstreams`."""
    plural = type_of(one).several and not one.name.endswith("us")
    name = one.name.removesuffix("s") if plural else one.name
    return "--" + name.replace("_", "-")
