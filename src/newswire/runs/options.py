"""How runs behave: one frozen value for each who decides something."""

from __future__ import annotations

from dataclasses import dataclass

from newswire.validate import OFF, check_flags, check_positive, is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How one run behaves. Times are in seconds; None switches a limit off.

    Attributes:
        timeout: a run that takes longer fails.
        idle_timeout: a run whose producer writes nothing for so long fails.
        keep_for: how long an ended run is kept; then it is as if it had never been.
        compact_after: from then on keep an ended run in its compact form (`newswire.runs.store.store`): one event of
            the log, from which readers get the same events, and can go on from any place all the same.
        lazy: don't start the producer before the first reader comes.
        abandon_after: stop the run when no reader has been there for so long, in any process; between processes it is
            exact to a quarter of the lease.
        claim_within: a run that no one produces yet is interrupted when no one has claimed it for so long.
        takeover: when the worker dies, don't end the run, but let another go on from the last position: at once where
            the producer is registered (`Runs.producer`), else whoever starts the run with the same key again.
    """

    timeout: float | None = None
    idle_timeout: float | None = None
    keep_for: float | None = 86_400.0
    compact_after: float | None = None
    lazy: bool = False
    abandon_after: float | None = None
    claim_within: float | None = 300.0
    takeover: bool = False

    def __post_init__(self) -> None:
        names = ("timeout", "idle_timeout", "keep_for", "compact_after", "abandon_after", "claim_within")
        check_positive(self, *names, none=OFF)
        check_flags(self, "lazy", "takeover")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How the process behaves that produces runs, or watches those of others.

    Attributes:
        lease: seconds after which readers know that a worker has died. Each worker gives a heartbeat every quarter of
            that. One that was silent for half is suspected, and one that does not answer for a quarter more is dead:
            an event loop that is blocked for three quarters of its lease loses its runs. A process that has just begun
            waits a whole lease before it judges anybody.
        path: where a run can be read, with `{id}` in it, for `Content-Location`; None: the path that it was started at,
            a slash, and the id.
        tell_errors: whether readers get the text of every exception that a producer raises. Otherwise they get its type
            only, and the text if it is a `newswire.errors.RunFailed`. Passwords in URLs are left out in any case.
    """

    lease: float = 10.0
    path: str | None = None
    tell_errors: bool = False

    def __post_init__(self) -> None:
        if not (is_number(self.lease) and self.lease >= 0.2):
            raise ValueError(f"lease is a number of seconds, 0.2 or more, not {self.lease!r}")
        check_flags(self, "tell_errors")
        if self.path is not None and "{id}" not in str(self.path):
            raise ValueError(
                f"path says where a run can be read and needs {{id}} in it, such as /runs/{{id}}: {self.path!r}"
            )
