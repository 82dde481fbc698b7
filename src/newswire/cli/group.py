"""Groups of commands: `newswire` and `newswire log`."""

from __future__ import annotations

import difflib
import gc
import importlib
from collections.abc import Mapping
from typing import Any

import click


class CommandGroup(click.Group):
    """A group that imports commands when they are needed, and knows what a slip of the pen may have meant.

    Args:
        late: commands, and the modules that have them by the same name; they come after those of the group itself.
    """

    def __init__(self, *arguments: Any, late: Mapping[str, str], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._late = late

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click."""
        return [*super().list_commands(ctx), *self._late]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click."""
        if cmd_name not in self._late:
            return super().get_command(ctx, cmd_name)
        collects = gc.isenabled()
        gc.disable()
        try:
            command: click.Command = getattr(importlib.import_module(self._late[cmd_name]), cmd_name)
        finally:
            if collects:
                gc.enable()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click.

        Raises:
            click.UsageError: there is no such command.
        """
        names = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in names:
            near = difflib.get_close_matches(args[0].lower(), names, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
            ctx.fail(f"there is no command {args[0][:40]!r}; {hint}")
        return super().resolve_command(ctx, args)
