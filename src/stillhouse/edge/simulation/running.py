"""From a scenario to a folder of records: every contestant, every seed, and nothing twice.

DIR/scenario.toml                 every setting, resolved
DIR/runs/CONTESTANT/SEED.jsonl    one run, from `start` to `end`
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from stillhouse.config import Table, differences, parse_toml, to_toml
from stillhouse.edge.learning.teaching import Teaching
from stillhouse.edge.simulation.people import gather_people
from stillhouse.edge.simulation.play import Play
from stillhouse.edge.simulation.records import Record, is_whole, write_records
from stillhouse.edge.simulation.scenario import Scenario
from stillhouse.edge.simulation.world import open_world
from stillhouse.errors import RunError, SettingsError
from stillhouse.files import free_bytes, write_atomically

IN_MEMORY, LEAST_BYTES = Path("/dev/shm"), 2**30
MARK = "# A simulation of stillhouse. A change made here is refused when it goes on.\n"


def simulate(scenario: Scenario, out: Path, only: Sequence[str] = (), tell: Callable[[str], None] = print) -> None:
    """Play what is missing in a folder.

    Args:
        scenario: the settings; those of a folder that holds records may only grow in seeds and contestants.
        out: folder of the records; made where absent.
        only: names of the contestants that are played; all when empty.
        tell: told one line for every run.

    Raises:
        SettingsError, DataError: a setting, a name or the images do not work.
        RunError: the folder holds another simulation or somebody's files, or the disk refuses.
    """
    chosen = _chosen(scenario, only)
    _claim(scenario, out)
    for seed in range(scenario.seeds):
        paths = {name: out / "runs" / name / f"{seed}.jsonl" for name in chosen}
        missing = [name for name, path in paths.items() if not is_whole(path)]
        for name in chosen:
            if name not in missing:
                tell(f"{name}, seed {seed}: played before")
        if missing:
            for name, records in _play(scenario, missing, seed):
                write_records(paths[name], records)
                tell(_told(name, seed, records))


def _play(scenario: Scenario, names: Sequence[str], seed: int) -> Iterator[tuple[str, list[Record]]]:
    world = open_world(scenario, seed)
    people = gather_people(scenario, world.hands, seed)
    first = Teaching(world.room, scenario.lesson).start().state
    for name in names:
        contestant = scenario.contestants[name]
        with TemporaryDirectory(dir=swift_place()) as folder:
            yield name, Play(scenario, name, contestant, world, people, first, seed, Path(folder)).run()


def swift_place() -> Path | None:
    """Where the service's files lie while it is played: in memory if there is room, since nobody needs them after."""
    return IN_MEMORY if IN_MEMORY.is_dir() and free_bytes(IN_MEMORY) >= LEAST_BYTES else None


def _chosen(scenario: Scenario, only: Sequence[str]) -> list[str]:
    if strange := [name for name in only if name not in scenario.contestants]:
        raise SettingsError(f"--only {strange[0]}: no such contestant; there are {', '.join(scenario.contestants)}")
    return [name for name in scenario.contestants if not only or name in only]


def _claim(scenario: Scenario, out: Path) -> None:
    """Write the scenario into the folder, unless another one is played there."""
    path, table = out / "scenario.toml", scenario.to_table()
    if path.is_file():
        before = _read(path)
        if changed := differences(*(_lasting(entry, table, before) for entry in (before, table))):
            raise RunError(
                f"{path}: the records beside it are of other settings ({'; '.join(changed)}); "
                "set them back to go on, or choose another --out"
            )
        table = {
            **table,
            "seeds": max(table["seeds"], before["seeds"]),
            "contestants": {**before["contestants"], **table["contestants"]},
        }
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: holds files that are not of a simulation; choose a new or an empty folder as --out")
    write_atomically(path, MARK + to_toml(table))


def _read(path: Path) -> Table:
    """The scenario of a folder that is gone on with.

    Raises:
        RunError: the file is damaged.
    """
    try:
        table = parse_toml(path.read_text(), str(path))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); restore it, or choose another --out") from error
    if not isinstance(table.get("seeds"), int) or not isinstance(table.get("contestants"), dict):
        raise RunError(f"{path}: is no scenario of a simulation any more; restore it, or choose another --out")
    return table


def _lasting(table: Table, one: Table, other: Table) -> Table:
    """What of a scenario must stay as it is: all but words, the number of seeds, and who is only in one of the two."""
    both = [name for name in table["contestants"] if name in one["contestants"] and name in other["contestants"]]
    rest = {name: value for name, value in table.items() if name not in ("about", "seeds")}
    return {**rest, "contestants": {name: table["contestants"][name] for name in both}}


def _told(name: str, seed: int, records: Sequence[Record]) -> str:
    start, end = records[0], records[-1]
    ended = [record["state"] for record in records if record["kind"] == "visit"]
    counts = ", ".join(f"{ended.count(state)} {state}" for state in ("applied", "refused", "lost") if state in ended)
    return (
        f"{name}, seed {seed}: {100 * start['test']:.1f} -> {100 * end['test']:.1f} % right, {counts or 'no visit'}, "
        f"{end['time'] / 60:.1f} virtual minutes in {end['wall_seconds']:.0f} s"
    )
