"""`newswire doctor`: what is wrong with an event stream, anyone's, for a person or for a program."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from newswire.cli.options import BODY, HEADERS, headers_of
from newswire.cli.terminal import say
from newswire.counted import counted
from newswire.doctor import Patient, Report, Severity, examine
from newswire.redact import printable, without_userinfo

_FOUND, _UNREACHABLE = 1, 2
_MARKS = {
    Severity.ERROR: ("✗", "red"),
    Severity.WARNING: ("!", "yellow"),
    Severity.NOTE: ("·", None),
}


@click.command(short_help="Find what is wrong with an event stream.")
@click.argument("url")
@click.option(
    "--for", "seconds", type=click.FloatRange(1, 3600), default=20.0, show_default=True, metavar="SECONDS",
    help="How long to watch. Longer than the interval of heartbeats, mostly 15 s, or it can't see them.",
)  # fmt: skip
@HEADERS
@click.option("--method", metavar="NAME", help="The request's method [GET, or POST with --data]. Only GET is repeated.")
@BODY
@click.option("--origin", metavar="ORIGIN", help="A page's origin that has to be able to read the stream.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: url and findings, without notes.")
def doctor(
    url: str, seconds: float, headers: tuple[tuple[str, str], ...], body: bytes | None, as_json: bool, **request: Any
) -> None:
    """Watch an event stream, anyone's, and say what is wrong with it and how to cure it.

    Exit code: 0 nothing is wrong, 1 there are findings, 2 the stream could not be reached.
    """
    if "://" not in url:
        url = f"http://{url}"
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("a stream's address begins with http:// or https://")
    patient = Patient(
        url=url,
        headers=headers_of(headers, body),
        method=(request["method"] or ("GET" if body is None else "POST")).upper(),
        body=body,
        seconds=seconds,
        origin=request["origin"],
    )
    report = asyncio.run(examine(patient, (lambda step: None) if as_json else _say))
    if as_json:
        shown = report.as_json() | {"url": without_userinfo(report.url)}
        click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
    else:
        _print(report)
    if report.unreachable is not None:
        raise SystemExit(_UNREACHABLE)
    if report.findings:
        raise SystemExit(_FOUND)


def _say(step: str) -> None:
    say(f"{without_userinfo(step)} …")


def _print(report: Report) -> None:
    seen = report.watched
    if report.unreachable is not None:
        say(f"{without_userinfo(report.url)} can't be reached: {report.unreachable}")
        return
    if seen.status is not None:
        came = f"{counted(len(seen.events), 'event')}, {counted(sum(len(chunk) for _, chunk in seen.chunks), 'byte')}"
        server = seen.headers.get("server")
        by = f" from {server[:40]}" if server else ""
        click.echo(printable(f"{seen.version} {seen.status}{by}: {came} in {seen.seconds:.1f} s"))
    for each in (*report.findings, *report.notes):
        mark, colour = _MARKS[each.severity]
        click.echo(
            f"\n{click.style(f'{mark} {each.code}', fg=colour, bold=colour is not None)}  {printable(each.what)}"
        )
        for line in each.cure.splitlines():
            click.echo(f"    {line}")
    if not report.findings:
        click.echo(f"\n{click.style('✓ nothing is wrong', fg='green', bold=True)}")
