"""A core and its devices, on real processes over HTTPS: what happens to devices in the field, and what the core learns.

    python benchmarks/edge_fleet.py --data train.parquet --test test.parquet --runs runs/fleet --out results.json

A server with 2,000 labelled images trains a small classifier and serves it; five devices with about 1,000 images each,
labels skewed, join by the command line. One is ten times slower than the usual one, one is killed twice, one comes
late, one has its line cut while it trains, and one more is hostile. When 15 returns have taught and all of this has
happened, everything is stopped; every event is looked up in the log of its device, in what `edge status` said and in
what the status page showed, and the core is judged on test images. About 25 minutes on two cores. What is done is not
repeated, so the command may be stopped and called again; a fleet that was stopped begins anew, with its first core.
"""

import argparse
from pathlib import Path

import torch

from fleet_pictures import take_pictures
from fleet_run import read_record, run, was_run
from fleet_scores import FIRST, Score, scores, status_at
from fleet_setup import HOSTILE, USERS, Fleet, deal, held, train_core
from fleet_story import Event, attempts, events
from stillhouse.edge.service.status import Status
from timing import Row, Table, report

SEED = 0


def score_row(name: str, score: Score, first: Score) -> Row:
    """One line of the table of accuracies."""
    change = 100 * (score.accuracy - first.accuracy)
    return {
        "core": name,
        "accuracy, %": f"{100 * score.accuracy:.2f}",
        "above the first core": "" if name == FIRST else f"{change:+.2f} ± {100 * score.error:.2f}",
        "best / worst class, %": f"{100 * max(score.recalls):.1f} / {100 * min(score.recalls):.1f}",
    }


def event_row(event: Event) -> Row:
    """One line of the table of events."""
    return {
        "device": event.device,
        "event": event.what,
        "its log": event.log or "NOT SEEN",
        "edge status": event.status or "NOT SEEN",
        "status page": event.page or "NOT SEEN",
    }


def device_rows(fleet: Fleet, status: Status) -> list[Row]:
    """What became of the visits of every device."""
    counts = {name: held(fleet, name) for name in USERS}
    return [
        {
            "device": device.name,
            "images": str(sum(counts.get(device.name, []))),
            "largest class": f"{max(counts[device.name]) / sum(counts[device.name]):.0%}"
            if device.name in counts
            else "",
            "state": device.state,
            "a visit takes, s": f"{device.mean_seconds:.0f}",
            "taught": str(device.applied),
            "refused": str(device.refused),
            "lost": str(device.lost),
            "strikes": str(device.strikes),
            "MB down / up": f"{device.bytes_down / 1e6:.1f} / {device.bytes_up / 1e6:.1f}",
        }
        for device in status.devices
    ]


def lesson_rows(status: Status) -> list[Row]:
    """What every lesson did, on images held out."""
    return [
        {
            "version": str(version.version),
            "taught by": ", ".join(version.by),
            **{name: _number(version.scores.get(name)) for name in ("accuracy", "cross_entropy")},
            **{name: _number(version.measures.get(name)) for name in ("strength", "kept")},
        }
        for version in status.versions
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main() -> None:
    """Do what is not done yet, and print what came of it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="labelled training images as one parquet file")
    options.add_argument("--test", required=True, help="labelled images to judge on")
    options.add_argument("--runs", type=Path, required=True, help="folder of the fleet")
    options.add_argument("--out", type=Path, help="also write the tables to this .md or .json file")
    options.add_argument("--returns", type=int, default=15, help="that have to teach (%(default)s)")
    options.add_argument("--minutes", type=float, default=25.0, help="that the fleet works, at most (%(default)s)")
    options.add_argument("--pictures", type=Path, help="folder for pictures of the status page, taken by chromium")
    options.add_argument("--again", action="store_true", help="let a fleet that has done its work do it again")
    given = options.parse_args()
    torch.set_num_threads(1)
    given.runs.mkdir(parents=True, exist_ok=True)
    fleet = Fleet(given.runs.resolve())
    deal(fleet, given.data.resolve(), SEED)
    train_core(fleet)
    if given.again or not was_run(fleet):
        (fleet.folder / "right.json").unlink(missing_ok=True)
        run(fleet, given.returns, 60 * given.minutes)
    record = read_record(fleet)
    status = status_at(fleet, record.ended)
    found = scores(fleet, str(Path(given.test).resolve()) if Path(given.test).exists() else given.test, status)
    tables = [
        Table("test accuracy", [score_row(name, score, found[FIRST]) for name, score in found.items()]),
        Table(f"devices, after {(record.ended - record.began) / 60:.0f} minutes", device_rows(fleet, status)),
        Table("events, and where they were seen", [event_row(event) for event in events(fleet, record)]),
        Table(f"what the {HOSTILE} device tried", attempts(fleet)),
        Table("lessons, judged on images held out", lesson_rows(status)),
    ]
    report(tables, torch.device("cpu"), given.out)
    if given.pictures:
        take_pictures(status, given.pictures)


if __name__ == "__main__":
    main()
