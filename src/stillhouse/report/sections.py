"""Sections of the page in reading order; what a run lacks has no section."""

from collections.abc import Mapping, Sequence

from stillhouse.report import curves, landscape, measures, tables, verdict
from stillhouse.report.charts import Chart
from stillhouse.report.curves import Figure
from stillhouse.report.facts import RunFacts
from stillhouse.report.lineage import lineage
from stillhouse.report.markup import Html, joined, tag
from stillhouse.report.pictures import contact_sheet
from stillhouse.report.protocols import unknown
from stillhouse.report.read import setting
from stillhouse.report.values import Tree
from stillhouse.report.verdict import Tile


def body(run: RunFacts) -> tuple[Html, dict[str, Chart]]:
    """Everything between the edges of the page, and its charts by the id of their place."""
    figures = _figures(run)
    maps = [landscape.section_parts(atlas) for atlas in run.atlas]
    near = [landscape.neighbours(atlas) for atlas in run.atlas if len(atlas.queries)]
    drawn = [_charts(run, name, title, found) for name, (title, found) in figures.items() if found]
    facts = [*_samples(run), *_results(run), *_lessons(run), *_further(run)]
    charts = charts_of(figures) | {name: chart for _, places in maps for name, chart in places.items()}
    parts = [_header(run), *(content for content, _ in maps), *near, *drawn, *facts]
    return joined([*parts, *_lineage(run), *_settings(run), *_quarantine(run)]), charts


def charts_of(figures: Mapping[str, tuple[str, Sequence[Figure]]]) -> dict[str, Chart]:
    """Charts by the id of their place, of titled figures by the name of their section."""
    return {
        f"{name}-{number}": figure.chart for name, (_, found) in figures.items() for number, figure in enumerate(found)
    }


def recipe_name(run: RunFacts) -> str:
    """The method of the recipe, or all that it adds up; else the run directory."""
    added = setting(run.recipe, "method.methods")
    return " + ".join(map(str, added)) if isinstance(added, list) else _text(run.recipe, "method.name") or run.name


def _figures(run: RunFacts) -> dict[str, tuple[str, Sequence[Figure]]]:
    return {
        "blocks": ("Accuracy by block", curves.accuracy_by_block(run.evaluation)),
        **measures.figures(run.evaluation.measures, labelled=bool(run.evaluation.data.classes)),
        "monitor": ("Accuracy over time", curves.accuracy_over_time(run.knn)),
        "losses": ("Training", curves.losses(run.steps)),
        "health": ("Health of the embeddings", curves.health(run.health)),
        "alignment": ("Alignment by block", curves.alignment(run.evaluation.alignment)),
    }


def _charts(run: RunFacts, name: str, title: str, figures: Sequence[Figure]) -> Html:
    """A section of charts; heat maps take half of a wide page, so that cells stay near to squares."""
    found = measures.spectrum_tiles(run.evaluation.measures) if name == "inside" else []
    are_maps = name in measures.HALF and all(len(figure.chart["data"][0].get("z", ())) <= 20 for figure in figures)
    before = tile_list(found) if found else ""
    return charts_section(name, title, figures, before=before, class_="charts half" if are_maps else "charts")


def section(name: str, title: str, *children: str) -> Html:
    """A part of the page with its heading."""
    return tag("section", tag("h2", title), *children, id=name)


def charts_section(
    name: str, title: str, figures: Sequence[Figure], *, before: str = "", class_: str = "charts"
) -> Html:
    """Figures with their places, after what is said before them."""
    drawn = [
        tag(
            "figure",
            tag("figcaption", tag("h3", figure.title), tag("p", figure.caption)),
            tag(
                "div",
                id=f"{name}-{number}",
                class_="chart",
                style=f"height: {figure.chart['layout']['height']}px",
                role="img",
                aria_label=f"{figure.title}. {figure.caption}",
            ),
        )
        for number, figure in enumerate(figures)
    ]
    return section(name, title, before, tag("div", *drawn, class_=class_))


def tile_list(tiles: Sequence[Tile]) -> Html:
    """Key figures in a row."""
    figures = [
        tag("div", tag("dt", tile.label), tag("dd", tile.value, class_="value"), tag("dd", tile.note, class_="note"))
        for tile in tiles
    ]
    return tag("dl", *figures, class_="tiles")


def _header(run: RunFacts) -> Html:
    tiles = verdict.tiles(run)
    health = verdict.health_sentence(run)
    state = "good" if health.lower().startswith("healthy") else "open"
    learned, unlabelled = verdict.judgement(run), verdict.labels_sentence(run)
    judged = tables.verdict_lines(run.evaluation.verdict)
    said = judged + [tag("p", learned, class_="learned" if judged else "lead")] * bool(learned)
    said += [] if judged else [tag("p", health, class_=f"health {state}" if learned else f"health lead {state}")]
    said += [tag("p", unlabelled, class_="quiet")] * bool(unlabelled)
    facts = [tag("li", tag("span", name), f" {value}") for name, value in _facts(run) if value]
    return tag(
        "header",
        tag("h1", recipe_name(run)),
        tag("ul", *facts, class_="facts"),
        *said,
        *[tile_list(tiles)] * bool(tiles),
    )


def _facts(run: RunFacts) -> list[tuple[str, str]]:
    evaluated = str(run.evaluation.encoder.get("name", ""))
    encoder = _text(run.recipe, "encoder.name") or evaluated or _text(run.card, "encoder.name")
    blocks = f", {run.blocks} block{'s' * (run.blocks > 1)}" if run.blocks else ""
    tested = run.evaluation.data
    return [
        ("Run", run.name),
        ("Data", _text(run.recipe, "data.uri") or tested.train),
        ("Encoder", encoder and encoder + blocks),
        ("Tested on", tested.test and f"{tested.test} ({tested.test_images:,} images)" * run.has_accuracy),
        ("State", verdict.progress(run)),
    ]


def _text(tree: Tree, name: str) -> str:
    """The setting at a dotted name if it is text, else nothing."""
    value = setting(tree, name)
    return value if isinstance(value, str) else ""


def _samples(run: RunFacts) -> list[Html]:
    if not len(run.samples.originals):
        return []
    said = tag("p", "The first images and the random views of them that training compares.")
    return [section("samples", "What the method sees", said, contact_sheet(run.samples))]


def _results(run: RunFacts) -> list[Html]:
    if not run.evaluation.results:
        return []
    found = [tables.results_table(run.evaluation, protocol) for protocol in run.evaluation.protocols]
    data = run.evaluation.data
    tested = f"{data.test_images:,} images of {len(data.classes)} classes"
    said = f"Accuracy on {tested}, from {data.train_images:,} labelled ones; gain: points over the same block untrained"
    if "classifier" in run.evaluation.protocols:
        said += "; the classifier learnt from what labels its own training knew"
    note = tag("p", f"{said}; below it the 95 % interval. Bold: what held-out images choose.")
    notes = [tag("p", f"Note: {sentence}", class_="quiet") for sentence in run.evaluation.notes]
    return [section("results", "Evaluation", note, tag("div", *found, class_="tables"), *notes)]


def _lessons(run: RunFacts) -> list[Html]:
    told = run.evaluation.lessons
    if not told:
        return []
    said = (
        "The linear probe again, told the labels of few images, balanced by class, or labels of which a share is wrong."
    )
    note = tag("p", f"{said} It is chosen by labels of that kind, too; the test has true ones.")
    found = [tables.results_table(run.evaluation, protocol) for protocol in told]
    return [section("labels", "Fewer and wrong labels", note, tag("div", *found, class_="tables"))]


def _further(run: RunFacts) -> list[Html]:
    """What was measured and has no chart, as it was written."""
    found = {name: value for name, value in unknown(run.evaluation.measures).items() if isinstance(value, Mapping)}
    cards = tables.settings_tables(found, "") if found and run.evaluation.data.classes else []
    return [section("further", "Further measurements", tag("div", *cards, class_="cards"))] if cards else []


def _lineage(run: RunFacts) -> list[Html]:
    found = lineage(run)
    return [section("lineage", "Lineage", tag("p", "What this encoder comes from."), found)] if found else []


def _settings(run: RunFacts) -> list[Html]:
    found = tables.settings_tables(run.recipe, "run")
    found += tables.settings_tables({"encoder card": dict(run.card)}, "") if run.card else []
    return [section("settings", "Settings", tag("div", *found, class_="cards"))] if found else []


def _quarantine(run: RunFacts) -> list[Html]:
    return [section("quarantine", "Quarantine", tables.quarantine_summary(run.quarantine))] if run.quarantine else []
