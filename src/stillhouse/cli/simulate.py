"""`stillhouse edge simulate`: many users played in one process."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stillhouse.errors import SettingsError


def simulate(
    scenario: Annotated[
        str,
        typer.Argument(
            help="quick, cifar10-iid, cifar10-skewed, attackers, churn, or a .toml file.", metavar="SCENARIO"
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the records; one that has some is gone on with.")],
    data: Annotated[str, typer.Option("--data", help="Labelled images, of the server and of all users.")] = "",
    test: Annotated[
        str, typer.Option("--test", help="Images that nothing is decided by; or a number of those of --data.")
    ] = "",
    settings: Annotated[
        list[str], typer.Option("--set", help="Any setting of the scenario, as users.number=20; may be repeated.")
    ] = [],  # noqa: B006 (typer copies)
    seeds: Annotated[int, typer.Option("--seeds", min=0, help="Repetitions with other draws; 0 as it says.")] = 0,
    only: Annotated[list[str], typer.Option("--only", help="Play this contestant alone; may be repeated.")] = [],  # noqa: B006 (typer copies)
) -> None:
    """Play a scenario: one server, many users that come and go, and several rules to teach the core by."""
    from stillhouse.config import parse_assignment
    from stillhouse.report.simulation import write

    try:
        from stillhouse.edge.simulation.running import simulate as play
        from stillhouse.edge.simulation.scenario import find_scenario
    except ImportError as error:
        raise SettingsError(f"edge: {error.name} is not installed; pip install 'stillhouse[edge-server]'") from error

    named: dict[str, Any] = {"data.uri": data, "data.test": test, "seeds": seeds}
    changes = {name: value for name, value in named.items() if value}
    wanted = find_scenario(scenario, changes | dict(map(parse_assignment, settings)))
    play(wanted, out, only, typer.echo)
    for sentence in write(out):
        typer.echo(sentence)
    typer.echo(f"written: {out / 'report.html'}")
