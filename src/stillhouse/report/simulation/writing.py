"""From the record files in a folder to `results.json`, `tables.md` and `report.html` beside them."""

import json
from pathlib import Path
from typing import Any

from stillhouse.files import write_atomically
from stillhouse.report.page import assembled
from stillhouse.report.simulation import words
from stillhouse.report.simulation.read import read_study
from stillhouse.report.simulation.records import Run, Study
from stillhouse.report.simulation.results import tables
from stillhouse.report.simulation.sections import body
from stillhouse.report.simulation.table import Table, markdown, one_line

UNITS = "accuracies, recalls and differences are shares, times virtual seconds, sizes bytes"


def write(folder: Path) -> list[str]:
    """Write `results.json`, `tables.md` and `report.html` about the runs that are complete.

    Args:
        folder: holds `runs/CONTESTANT/SEED.jsonl` and, if settings are to be shown, `scenario.toml`.

    Returns:
        Lines worth printing: the outcome in words, the table of accuracies, and how many runs are complete.

    Raises:
        RunError: no run is complete, a file is damaged, or nothing can be written.
    """
    study = read_study(folder)
    found = tables(study)
    content, charts = body(study, found)
    files = {
        "results.json": json.dumps(results(study, found), indent=1, allow_nan=False) + "\n",
        "tables.md": _markdown(study, found),
        "report.html": assembled(f"{study.name}: a simulated fleet", content, charts),
    }
    for name, text in files.items():
        write_atomically(folder / name, text.encode("utf-8", "replace"))  # a name may hold halves of characters
    return [one_line(words.headline(study)), "", *found[0].lines(), "", one_line(words.missing_sentence(study))]


def results(study: Study, found: list[Table]) -> dict[str, Any]:
    """Everything as plain numbers: the tables, and of every run the core after each lesson."""
    return {
        "version": 1,
        "scenario": study.name,
        "summary": study.summary,
        "units": UNITS,
        "complete": len(study.runs),
        "missing": list(study.missing),
        "headline": words.headline(study),
        "horizon": study.horizon,
        "tables": [table.plain() for table in found],
        "runs": [_plain_run(run) for runs in study.contestants.values() for run in runs],
    }


def _plain_run(run: Run) -> dict[str, Any]:
    return {
        "contestant": run.start.contestant,
        "seed": run.start.seed,
        "core": run.start.test,
        "final": run.end.test,
        "recalls": list(run.recalls),
        "digest": run.end.digest,
        "seconds": run.end.time,
        "bytes": run.bytes,
        "history": [[moment.time, moment.bytes, moment.test] for moment in run.history],
    }


def _markdown(study: Study, found: list[Table]) -> str:
    seeds = len({run.start.seed for run in study.runs})
    spread = f"Mean \u00b1 deviation of {seeds} seeds. " if seeds > 1 else "One seed. "
    lines = [f"# {markdown(study.name)}", "", markdown(words.headline(study)), ""]
    lines += [f"{spread}{markdown(words.missing_sentence(study))}", ""]
    for table in found:
        lines += [f"## {table.title}", "", table.note, "", *table.lines(), ""]
    return "\n".join(lines)
