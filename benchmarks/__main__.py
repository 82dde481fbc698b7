"""`python -m benchmarks [NAME...]`: run benchmarks, print their tables, and keep the results page."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Final

from benchmarks.against import compare
from benchmarks.build import BuildError
from benchmarks.processes import Failed
from benchmarks.report import Say, Size, machine, write_docs

# In the order of the results page. Each is a module of this package; see its docstring.
NAMES: Final = (
    "fanout",
    "private",
    "memory",
    "slow",
    "coalesce",
    "compress",
    "state",
    "storm",
    "cut",
    "loop",
    "strangers",
    "revocation",
    "presence",
    "publish",
    "engines",
    "outbox",
    "edges",
    "channels",
    "decode",
    "reading",
    "reconnect_clients",
    "runs",
    "faults",
    "jitter",
    "soak",
    "heap",
)


def available() -> list[str]:
    """The benchmarks that are there."""
    return [name for name in NAMES if importlib.util.find_spec(f"benchmarks.{name}") is not None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that the arguments name. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(available())}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--smoke", action="store_true", help="only see that they run")
    parser.add_argument("--write-docs", action="store_true", help="put the results into docs/benchmarks.md")
    parser.add_argument(
        "--against", metavar="REVISION", help="in turns with another revision; see benchmarks/against.py"
    )
    parser.add_argument(
        "--log-kind",
        action="append",
        metavar="KIND",
        help="with `faults`: only on this engine, such as sqlite; repeatable",
    )
    parser.add_argument("--minutes", type=float, help="with `heap` (10) and `soak` (30): how long")
    parser.add_argument("--rate", type=float, help="with `heap` (200) and `soak` (500): events a second")
    parser.add_argument("--page", help="with `heap`: one page alone, such as chat")
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds --against takes (5)")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(available()):
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose of {', '.join(available())}")
    if options.page and (options.names != ["heap"] or options.write_docs):
        parser.error("--page is for `heap`, and not for the results page, which has all pages")
    given = {name: value for name in ("minutes", "rate", "page") if (value := getattr(options, name)) is not None}
    if given and options.names not in (["heap"], ["soak"]):
        parser.error(
            f"--{next(iter(given))} is for `heap` or `soak`: python -m benchmarks soak --{next(iter(given))} …"
        )
    if any(value <= 0 for value in (options.minutes, options.rate) if value is not None):
        parser.error("--minutes and --rate are more than 0")
    if sys.platform != "linux":
        parser.error("the benchmarks read /proc and use epoll: they need Linux")
    size = Size.SMOKE if options.smoke else Size.QUICK if options.quick else Size.FULL
    print(machine(), flush=True)
    try:
        for name in options.names or available():
            if options.against:
                for table in compare(name, options.against, size, options.rounds, _clock()):
                    print(f"\n{table.text()}", flush=True)
            else:
                module = importlib.import_module(f"benchmarks.{name}")
                kinds = _kinds(module, options.log_kind)
                if size is Size.SMOKE and not options.log_kind:
                    kinds = kinds[:1]
                _run(module, name, size, kinds, given, docs=options.write_docs)
    except (BuildError, Failed) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def _kinds(module: ModuleType, chosen: Sequence[str] | None) -> Sequence[str | None]:
    """The engines to run on; None for a benchmark that does not ask for one."""
    known = getattr(module, "KINDS", None)
    if known is None:
        return (None,)
    if unknown := set(chosen or ()) - set(known):
        raise Failed(f"there is no log of the kind {', '.join(sorted(unknown))}: choose of {', '.join(known)}")
    return chosen or list(known)


def _run(
    module: ModuleType,
    name: str,
    size: Size,
    kinds: Sequence[str | None],
    given: Mapping[str, Any],
    *,
    docs: bool,
) -> None:
    options = "".join(
        f" --{option} {value if isinstance(value, str) else format(value, 'g')}" for option, value in given.items()
    )
    for kind in kinds:
        place = name if kind is None else f"{name} {kind}"
        command = f"python -m benchmarks {name}{options}" + ("" if kind is None else f" --log-kind {kind}")
        print(f"\n=== {module.TITLE}: {command}\n", flush=True)
        tables = module.run(size, _clock(), **given) if kind is None else module.run(size, _clock(), kind)
        for table in tables:
            print(table.text(), end="\n\n", flush=True)
        if docs:
            plots = module.plots(size) if hasattr(module, "plots") else {}
            for path, image in plots.items():
                path.write_text(image, encoding="utf-8")
            write_docs(place, command, tables, images=list(plots) if getattr(module, "PLOTS_HERE", False) else ())


def _clock() -> Say:
    begun = time.monotonic()
    return lambda what: print(f"  {time.monotonic() - begun:5.0f} s  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
