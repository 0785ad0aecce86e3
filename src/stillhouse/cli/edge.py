"""`stillhouse edge ...`: one core, many devices."""

import typer

from stillhouse.cli.join import join

app = typer.Typer(
    help="A core that learns from clones which train elsewhere.", no_args_is_help=True, rich_markup_mode=None
)
app.command()(join)
