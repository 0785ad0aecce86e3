"""The page about several runs, and its lines for the terminal."""

from collections.abc import Sequence
from pathlib import Path

from stillhouse.files import write_atomically
from stillhouse.report.charts import Chart
from stillhouse.report.comparison.curves import by_block, over_time
from stillhouse.report.comparison.gathering import Compared, cautions, different_settings, gather
from stillhouse.report.comparison.scores import NOTHING, Table, tables
from stillhouse.report.markup import Html, joined, tag
from stillhouse.report.page import assembled
from stillhouse.report.sections import charts_of, charts_section, recipe_name, section
from stillhouse.report.tables import written


def compare(folders: Sequence[Path], out: Path) -> tuple[list[Table], list[str]]:
    """Write one page about several runs, which needs no other file and no network.

    Args:
        folders: run directories, two or more, each once.
        out: file to write, ending in .html.

    Returns:
        Tables with a row for each run, and sentences about what keeps scores from being compared.

    Raises:
        RunError: a mistake in `folders`, a damaged file, or the page cannot be written.
    """
    runs = gather(folders)
    found, told = tables(runs), cautions(runs)
    content, charts = _body(runs, found, told)
    page = assembled(f"{len(runs)} runs compared", content, charts)
    write_atomically(out, page.encode("utf-8", "replace"))
    return found, told


def _body(runs: Sequence[Compared], found: list[Table], told: list[str]) -> tuple[Html, dict[str, Chart]]:
    figures = {"blocks": ("Accuracy by block", by_block(runs)), "time": ("Over time", over_time(runs))}
    drawn = [charts_section(name, title, each) for name, (title, each) in figures.items() if each]
    scores = [section(f"scores-{number}", table.title, _table(table, runs)) for number, table in enumerate(found)]
    return joined([_header(runs, told), *scores[:-1], *drawn, scores[-1], _settings(runs)]), charts_of(figures)


def _header(runs: Sequence[Compared], told: list[str]) -> Html:
    listed = [
        tag("li", tag("b", run.name), f" {recipe_name(run.facts)}", class_="run", style=f"--swatch: var({run.color})")
        for run in runs
    ]
    warned = [tag("div", *(tag("p", sentence) for sentence in told), class_="verdict open")] * bool(told)
    return tag("header", tag("h1", f"{len(runs)} runs compared"), tag("ul", *listed, class_="legend"), *warned)


def _table(table: Table, runs: Sequence[Compared]) -> Html:
    head = tag("tr", *(tag("th", title, scope="col") for title in table.heads))
    rows = [
        tag(
            "tr",
            tag("th", row[0][0], scope="row", class_="run", style=f"--swatch: var({run.color})"),
            *(_cell(*cell, number in leaders) for cell, leaders in zip(row[1:], table.leaders[1:], strict=True)),
        )
        for number, (row, run) in enumerate(zip(table.rows, runs, strict=True))
    ]
    return joined(
        [tag("p", table.note), tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="wide")]
    )


def _cell(value: str, note: str, leads: bool) -> Html:
    return tag("td", tag("strong" if leads else "span", value), *[tag("small", f" {note}")] * bool(note))


def _settings(runs: Sequence[Compared]) -> Html:
    different = different_settings(runs)
    if not different:
        return section("settings", "Settings", tag("p", "All recipes are the same."))
    head = tag("tr", *(tag("th", name, scope="col") for name in ("setting", *(run.name for run in runs))))
    rows = [
        tag("tr", tag("th", name, scope="row"), *(tag("td", _value(value)) for value in values))
        for name, values in different.items()
    ]
    count = "1 setting differs" if len(different) == 1 else f"{len(different)} settings differ"
    said = tag("p", f"{count}; all others are the same.")
    held = tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="wide")
    return section("settings", "Different settings", said, held)


def _value(value: object) -> str:
    return NOTHING if value is None else written(value)
