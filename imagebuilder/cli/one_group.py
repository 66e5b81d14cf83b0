"""`imgbuild one` without another word writes templates; `imgbuild one vm` asks a running OpenNebula."""

from typing import Any

import typer
from typer.core import TyperGroup

from imagebuilder.cli import one, one_vm


class GroupWithDefault(TyperGroup):
    """A group whose command `default` needs no name: its arguments and options may follow the group's."""

    default = "templates"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # typer has no public name for its type
        """Put the default's name before words that begin with no command's."""
        words = args if args[:1] and args[0] in self.commands else [self.default, *args]
        return super().parse_args(ctx, words)


app = typer.Typer(name="one", cls=GroupWithDefault, help="Templates for OpenNebula, and what OpenNebula makes of them.")
app.command(name=GroupWithDefault.default)(one.one)
app.add_typer(one_vm.app)
