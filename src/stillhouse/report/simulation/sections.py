"""Sections of the page about a study, in reading order; what the records lack has no section."""

import math
from collections.abc import Sequence

from stillhouse.report.charts import Chart, finite
from stillhouse.report.curves import Figure
from stillhouse.report.markup import Html, joined, tag
from stillhouse.report.sections import charts_of, charts_section, section, tile_list
from stillhouse.report.simulation import curves, lanes, words
from stillhouse.report.simulation.marks import Clock
from stillhouse.report.simulation.records import FATES, Recalls, Run, Study
from stillhouse.report.simulation.table import DASH, Spread, Table
from stillhouse.report.tables import settings_tables
from stillhouse.report.values import Tree
from stillhouse.report.wording import duration, percent

LEGEND = tag("ul", *(tag("li", fate, class_=f"fate {fate}") for fate in FATES), class_="legend")
BEFORE = {
    "contestants": tag(
        "p",
        "Mean line and a band of one deviation over seeds; dashed: the core alone. Ticks below: clones that were "
        "refused (upper row) and lost (lower row), of all seeds.",
    ),
    "visits": LEGEND,
}
LAYOUTS = {"curves": "charts one", "contestants": "charts small", "visits": "charts one", "staleness": "charts one"}
MOST_DIGITS = 24  # classes; of more, cells of the map have no room for numbers


def body(study: Study, tables: Sequence[Table]) -> tuple[Html, dict[str, Chart]]:
    """Everything between the edges of the page, and its charts by the id of their place."""
    winner, runs = next(iter(study.contestants.items()))
    shown, clock = runs[0], Clock.of(runs[0].end.time)
    figures: dict[str, tuple[str, Sequence[Figure]]] = {
        "curves": ("Accuracy on the way", curves.accuracy_on_the_way(study)),
        "contestants": ("Each contestant", curves.each_contestant(study)),
        "visits": (
            f"Visits of one run: {winner}, seed {shown.start.seed}",
            [*lanes.live_users(shown, clock), *lanes.timeline(shown, clock)],
        ),
        "staleness": ("Clones that came back", curves.staleness(study)),
    }
    drawn = {
        name: charts_section(name, title, found, before=BEFORE.get(name, ""), class_=LAYOUTS[name])
        for name, (title, found) in figures.items()
        if found
    }
    accuracy, *others = (
        section(f"table-{table.name}", table.title, tag("p", table.note), table.html()) for table in tables
    )
    content = [_header(study), drawn.pop("curves"), accuracy, drawn.pop("contestants"), *_recalls(study)]
    return joined([*content, *drawn.values(), *others, *_settings(study)]), charts_of(figures)


def _header(study: Study) -> Html:
    attacked = words.attack_sentence(study)
    said = [tag("p", words.headline(study), class_="lead"), *[tag("p", attacked, class_="aside")] * bool(attacked)]
    said.append(tag("p", words.missing_sentence(study), class_="quiet"))
    facts = [tag("li", tag("span", name), f" {value}") for name, value in _facts(study) if value]
    return tag(
        "header",
        tag("h1", study.name),
        *[tag("p", study.summary, class_="quiet")] * bool(study.summary),
        tag("ul", *facts, class_="facts"),
        *said,
        tile_list(words.tiles(study)),
    )


def _facts(study: Study) -> list[tuple[str, str]]:
    start = study.runs[0].start
    attackers = sum(bool(user.attack) for user in start.users)
    return [
        ("Folder", study.folder * (study.folder != study.name)),
        ("Contestants", str(len(study.contestants))),
        ("Seeds", str(len({run.start.seed for run in study.runs}))),
        ("Users", f"{len(start.users)}" + f", {attackers} of them attackers" * bool(attackers)),
        ("Classes", str(len(start.recalls) or "")),
        ("Time", duration(study.horizon)),
    ]


def _recalls(study: Study) -> list[Html]:
    """A map of recalls: a row for the first core and for every contestant, a column per class."""
    classes = len(study.runs[0].start.recalls)
    seen: dict[int, Run] = {run.start.seed: run for run in study.runs}
    means = {"core only": _means([run.start.recalls for run in seen.values()])}
    means |= {name: _means([run.recalls for run in runs]) for name, runs in study.contestants.items()}
    known = finite(value for row in means.values() for value in row)
    if not known:
        return []
    low, high = min(known), max(known)
    rows = [_recall_row(name, row, low, high) for name, row in means.items()]
    heads = (tag("th", str(number) if classes <= MOST_DIGITS else "", scope="col") for number in range(classes))
    head = tag("tr", tag("th", "class", scope="col"), *heads)
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="map", style=f"--classes: {classes}")
    region = tag("div", table, class_="wide", tabindex="0", role="region", aria_label="Recall by class")
    said = "Share of the test images of a class that the last core gets right, mean over seeds; colors reach"
    note = tag("p", f"{said} from {percent(low)} (pale) to {percent(high)}.")
    return [section("recalls", "Recall by class", note, region)]


def _means(recalls: Sequence[Recalls]) -> list[float]:
    """Over seeds, for every class; not a number where no seed's test has an image of it."""
    columns = zip(*recalls, strict=True)
    return [Spread(tuple(recall for recall in column if recall is not None)).mean for column in columns]


def _recall_row(name: str, means: Sequence[float], low: float, high: float) -> Html:
    return tag(
        "tr", tag("th", name, scope="row"), *(_cell(name, *place, len(means), low, high) for place in enumerate(means))
    )


def _cell(name: str, number: int, mean: float, classes: int, low: float, high: float) -> Html:
    if math.isnan(mean):
        return tag("td", DASH, style="--share: 0", title=f"{name}, class {number}: no test images")
    return tag(
        "td",
        f"{100 * mean:.0f}" if classes <= MOST_DIGITS else "",
        style=f"--share: {(mean - low) / ((high - low) or 1):.3f}",
        title=f"{name}, class {number}: {percent(mean)}",
    )


def _settings(study: Study) -> list[Html]:
    """Settings of the scenario, and of every contestant what is different from them."""
    shared = {name: value for name, value in study.settings.items() if name != "contestants"}
    own = study.settings.get("contestants", {})
    found = settings_tables(shared, "scenario")
    for name, entry in own.items() if isinstance(own, dict) else ():
        if isinstance(entry, dict):
            found += settings_tables({f"contestant {name}": _different(entry, {"lesson": shared.get("lesson")})}, "")
    return [section("settings", "Settings", tag("div", *found, class_="cards"))] if found else []


def _different(entry: Tree, usual: object, prefix: str = "") -> dict[str, object]:
    """Leaves by dotted name that are not as usual."""
    known = usual if isinstance(usual, dict) else {}
    found: dict[str, object] = {}
    for name, value in entry.items():
        if isinstance(value, dict):
            found |= _different(value, known.get(name), f"{prefix}{name}.")
        elif name not in known or known[name] != value:
            found[prefix + name] = value
    return found
