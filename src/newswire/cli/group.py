"""A group of commands that knows what a slip of the pen may have meant. Used by `newswire` and by `newswire log`."""

from __future__ import annotations

import difflib

import click


class CommandGroup(click.Group):
    """A group that suggests a command, or names all of them."""

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
