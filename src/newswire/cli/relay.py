"""`newswire relay`: completions of an AI API that can be resumed, stopped, and watched by many."""

from __future__ import annotations

from collections.abc import Iterator

import click

from newswire.cli.served import serve_app
from newswire.cli.settings import with_settings
from newswire.redact import without_userinfo
from newswire.relay.served import create_relay
from newswire.relay.settings import RelaySettings
from newswire.server.settings import Settings
from newswire.serving.option_types import duration


@click.command(short_help="Relay an AI API: answers that can be resumed, stopped and watched.")
@with_settings(RelaySettings, plain=Settings)
def relay(settings: RelaySettings) -> None:
    """Relay an OpenAI- or Anthropic-compatible API.

    Point a client's base URL here. A completion with "stream": true goes on when its client is gone, and can be read
    again at the address in Content-Location; all else is passed on as it is.

    At least one --upstream is needed. Each setting comes from its flag, else from the environment (--max-body is
    NEWSWIRE_RELAY_MAX_BODY), else from the TOML file (max-body, below [relay]), else from the default in brackets.
    """

    def banner(url: str) -> Iterator[str]:
        yield f"relays on {url}"
        for upstream in settings.upstreams:
            place = click.style(f"/{upstream.name}" if upstream.name else "", fg="cyan")
            yield f"  {url}{place}  →  {without_userinfo(upstream.url)}"
        yield f"answers are kept for {duration().show(settings.keep_for)} after their end"

    serve_app(
        settings,
        create_relay,
        danger="which would send their keys here without encryption: listen on 127.0.0.1 behind a proxy that speaks "
        "HTTPS",
        banner=banner,
    )
