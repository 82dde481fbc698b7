"""How a relay behaves."""

from __future__ import annotations

from dataclasses import dataclass

from newswire.runs.options import RunOptions
from newswire.validate import OFF, check_flags, check_kind, check_list, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOptions:
    """How a relay behaves. Times are in seconds, sizes in bytes; None switches a limit off.

    Attributes:
        connect_timeout: what connecting to an upstream may take.
        idle_timeout: an upstream that says nothing for so long has failed. Models may think for minutes.
        timeout: a completion that takes longer fails.
        body_timeout: a client that stops in the middle of its request is given so long.
        max_body: the largest request for a completion; other requests are passed on as they come.
        keep_for: what a completion is kept for after its end, and with it its key.
        compact_after: from then on an ended completion is kept in its folded form; see `RunOptions`.
        abandon_after: stop a completion without a reader for so long; None: it always goes on to its end.
        cookies: whether cookies go through, both ways. A completion, which is kept, sets none.
        credential_headers: names of further headers that carry credentials, beside those that newswire knows.
        shared: whether clients without any credentials share their idempotency keys. If not, the key of a request
            without credentials leads to no other request's answer.
    """

    connect_timeout: float = 10.0
    idle_timeout: float | None = 600.0
    timeout: float | None = None
    body_timeout: float = 30.0
    max_body: int = 32 * 2**20
    keep_for: float | None = 86_400.0
    compact_after: float | None = None
    abandon_after: float | None = None
    cookies: bool = False
    credential_headers: tuple[str, ...] = ()
    shared: bool = False

    def __post_init__(self) -> None:
        check_positive(self, "connect_timeout", "body_timeout")
        check_positive(self, "max_body", whole=True)
        check_positive(self, "idle_timeout", none=OFF)
        check_flags(self, "cookies", "shared")
        check_list("credential_headers", self.credential_headers)
        for name in self.credential_headers:
            check_kind("a name in credential_headers", name, str)
        object.__setattr__(self, "credential_headers", tuple(name.strip().lower() for name in self.credential_headers))
        self.run  # noqa: B018  # checks the rest

    @property
    def run(self) -> RunOptions:
        """The options of the runs."""
        return RunOptions(
            timeout=self.timeout,
            keep_for=self.keep_for,
            compact_after=self.compact_after,
            abandon_after=self.abandon_after,
        )
