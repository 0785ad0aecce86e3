"""A thousand users that come and go: is a run the same when it is repeated, and what does a return cost?

    python benchmarks/edge_crowd.py --out crowd.md

The clouds of `edge_rules.py`; a thousand users are there at a time, a fifth of them leaves every minute, newcomers take
their places, and every tenth clone is lost. The service, its database and its signatures are the real ones. Prints, for
N, 2 N and 4 N returns, seconds of one core and what one return more costs, and whether the core of a repetition has the
same hash; then by how much one user that is twelve times slower changes how often the others return.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_rules import make_world
from stillhouse.config import Table, merge
from stillhouse.edge.learning.teaching import Teaching
from stillhouse.edge.simulation.people import gather_people
from stillhouse.edge.simulation.play import Play
from stillhouse.edge.simulation.records import Record
from stillhouse.edge.simulation.running import swift_place
from stillhouse.edge.simulation.scenario import Scenario, read_scenario
from stillhouse.edge.simulation.world import World
from timing import Row, prepare, report
from timing import Table as Printed

IMAGES, USERS = 8, 20
CROWD: Table = {
    "method": {"name": "simclrv2-finetune", "head_layer": 0},
    "time": {"step": 5.0, "delay": 40.0, "lesson": 0.0},
    "local": {"steps": 4, "batch_size": 8},
    "visits": {"each": 0},
    "lesson": {"rule": "fedasync", "gate": {"useful": False}, "trial": {"shares": []}},
    "leases": {"beat_seconds": 20.0, "max_clones": 10_000, "allowed_fall": 1.0},
    "contestants": {"fedasync": {}},
}


def main() -> None:
    """Play, and print what it took."""
    arguments = options().parse_args()
    device = prepare()
    report([growth(arguments.users, arguments.returns), bottleneck(arguments.minutes)], device, arguments.out)


def growth(users: int, returns: int) -> Printed:
    """What more returns cost."""
    churn = {"live": users, "leaving": 0.2, "arriving": 0.25 * users, "lost": 0.1}
    world = make_world("iid", 0, 3 * users, IMAGES)
    rows, before = list[Row](), (0, 0.0)
    for count in (returns, 2 * returns, 4 * returns):
        scenario = crowd(users={"number": 3 * users}, churn=churn, visits={"total": count})
        began = time.process_time()
        ended = play(scenario, world)[-1]
        seconds = time.process_time() - began
        again = play(scenario, world)[-1] if count == returns else ended
        same = "the same" if again["digest"] == ended["digest"] else "ANOTHER"
        rows.append(
            {
                "returns": f"{count:,}",
                "CPU seconds": f"{seconds:.1f}",
                "ms for one more": f"{1000 * (seconds - before[1]) / (count - before[0]):.1f}" if before[0] else "-",
                "virtual minutes": f"{ended['time'] / 60:.2f}",
                "repeated": same if count == returns else "-",
            }
        )
        before = (count, seconds)
        print(rows[-1], flush=True)
    return Printed(f"{users:,} users at a time, a fifth leaves every minute", rows)


def bottleneck(minutes: float) -> Printed:
    """How often users return beside a slow one, where a lesson takes half a second of the server."""
    rows, world = list[Row](), make_world("iid", 0, USERS, IMAGES)
    usual = crowd(users={"number": USERS}, time={"lesson": 0.5}, visits={"total": round(USERS * minutes)})
    slow = replace(usual, time=replace(usual.time, slow=1, slower=12.0))
    usual_speeds, speeds = (
        [person.speed for person in gather_people(scenario, world.hands, 0)] for scenario in (usual, slow)
    )
    names = [f"user-{number:04d}" for number in range(USERS) if speeds[number] == usual_speeds[number]]
    assert len(names) == USERS - 1
    for told, scenario in (("as quick as the others", usual), ("12 times slower", slow)):
        records = play(scenario, world)
        returned = [record for record in records if record["kind"] == "visit" and record["user"] in names]
        rate = len(returned) / (records[-1]["time"] / 60)
        rows.append({"one of twenty is": told, "returns of the others per virtual minute": f"{rate:.3f}"})
        print(rows[-1], flush=True)
    return Printed("a slow user among nineteen", rows)


def crowd(**groups: Table) -> Scenario:
    """The scenario with groups laid over it."""
    return read_scenario(merge(CROWD, groups))


def play(scenario: Scenario, world: World) -> list[Record]:
    """One run of seed 0."""
    first = Teaching(world.room, scenario.lesson).start().state
    people = gather_people(scenario, world.hands, 0)
    with TemporaryDirectory(dir=swift_place()) as folder:
        return Play(scenario, "fedasync", scenario.contestants["fedasync"], world, people, first, 0, Path(folder)).run()


def options() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--users", type=int, default=1000, help="there at a time (%(default)s)")
    made.add_argument("--returns", type=int, default=500, help="N (%(default)s)")
    made.add_argument("--minutes", type=float, default=10.0, help="of the virtual clock, for the slow user")
    made.add_argument("--out", type=Path, help="also write the tables to this .md or .json file")
    return made


if __name__ == "__main__":
    main()
