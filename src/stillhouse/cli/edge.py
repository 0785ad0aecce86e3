"""`stillhouse edge ...`: one core, many devices."""

import time
from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.join import join
from stillhouse.cli.simulate import simulate
from stillhouse.errors import Interrupted

app = typer.Typer(
    help="A core model that learns from clones which train elsewhere and come back whenever they can.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

StateArgument = Annotated[Path, typer.Argument(help="State folder of the service.", metavar="STATE")]
StateOption = Annotated[Path, typer.Option("--state", help="State folder of the service.", metavar="STATE")]


@app.command()
def init(
    state: StateArgument,
    core: Annotated[Path, typer.Option("--core", help="Run directory that the core begins from.", metavar="RUN")],
    data: Annotated[str, typer.Option("--data", help="Images that the server itself learns from.")],
    name: Annotated[
        list[str], typer.Option("--name", help="Host or address that devices reach the server by; may be repeated.")
    ] = [],  # noqa: B006 (typer copies)
    settings: Annotated[
        list[str], typer.Option("--set", help="A setting of service, leases, web or lesson, as leases.late=refuse.")
    ] = [],  # noqa: B006 (typer copies)
) -> None:
    """Make a state folder: the first core, certificates, an empty list of devices."""
    from stillhouse.config import parse_assignment
    from stillhouse.edge.learning.opening import read_lesson
    from stillhouse.edge.service.authority import Authority
    from stillhouse.edge.service.core import create_core
    from stillhouse.edge.service.folder import StateFolder

    changes = dict(map(parse_assignment, settings)) | ({"service.names": name} if name else {})
    known = create_core(state, core, data, changes, read_lesson)
    Authority.create(StateFolder(state).authority).issue(known.service.names)
    typer.echo(f"made: {state}\nnext: stillhouse edge invite NAME --state {state}; stillhouse edge serve {state}")


@app.command()
def invite(
    name: Annotated[str, typer.Argument(help="Of the device.")],
    state: StateOption,
    url: Annotated[str, typer.Option("--url", help="Where it finds the server, if not by its first name.")] = "",
) -> None:
    """Let a device in: writes NAME.invite, which holds its key; carry it there by a safe way."""
    from stillhouse.edge.service.authority import Authority
    from stillhouse.edge.service.core import read_core
    from stillhouse.edge.service.database import Database
    from stillhouse.edge.service.folder import StateFolder
    from stillhouse.edge.service.invites import invite as let_in

    known, folder, path = read_core(state), StateFolder(state), Path(f"{name}.invite")
    if path.exists():
        raise typer.BadParameter(f"{path} is there already; remove it, or go to another folder")
    database = Database(known.service.database or folder.database_url)
    try:
        ca = Authority(folder.authority).pem
        let_in(database, name, url or known.service.url, ca, time.time()).write(path)
    finally:
        database.close()
    typer.echo(f"written: {path} (a secret: whoever holds it is {name})\nnext, there: stillhouse edge join {path}")


@app.command()
def revoke(name: Annotated[str, typer.Argument(help="Of the device.")], state: StateOption) -> None:
    """Shut a device out at once."""
    from stillhouse.edge.service.core import read_core
    from stillhouse.edge.service.database import Database
    from stillhouse.edge.service.folder import StateFolder
    from stillhouse.edge.service.invites import revoke as shut_out

    database = Database(read_core(state).service.database or StateFolder(state).database_url)
    try:
        shut_out(database, name, time.time())
    finally:
        database.close()
    typer.echo(f"shut out: {name}")


@app.command()
def status(state: StateArgument) -> None:
    """Devices, leases and the core, as they are now."""
    from stillhouse.cli.fleet import status_tables
    from stillhouse.edge.service.core import read_core
    from stillhouse.edge.service.database import Database
    from stillhouse.edge.service.folder import StateFolder
    from stillhouse.edge.service.status import read_status

    database = Database(read_core(state).service.database or StateFolder(state).database_url)
    try:
        status_tables(read_status(database, time.time()))
    finally:
        database.close()


@app.command()
def serve(state: StateArgument) -> None:
    """Serve devices over HTTPS and teach the core by what they return, until Ctrl-C."""
    from stillhouse.edge.learning.opening import open_teaching
    from stillhouse.edge.service.serving import serve as serve_state

    try:
        serve_state(state, open_teaching, typer.echo)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"stopped; go on with `stillhouse edge serve {state}`") from stop


app.command()(join)
app.command()(simulate)
