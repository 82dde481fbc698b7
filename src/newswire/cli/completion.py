"""`newswire completion`: the script that completes commands and options with the Tab key, for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print the script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes the Tab key complete commands and options; add one line to your shell's start-up file:

    \b
    bash, ~/.bashrc:                     eval "$(newswire completion bash)"
    zsh, ~/.zshrc, after compinit:       eval "$(newswire completion zsh)"
    fish, ~/.config/fish/config.fish:    newswire completion fish | source
    """
    found = get_completion_class(shell)
    assert found is not None, "the choices are those that click has"
    click.echo(found(context.find_root().command, {}, "newswire", "_NEWSWIRE_COMPLETE").source())
