"""The page of a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from plotly.offline import get_plotlyjs

from stillhouse.files import write_atomically
from stillhouse.report.charts import Chart
from stillhouse.report.facts import RunFacts
from stillhouse.report.frame import framed, packaged
from stillhouse.report.landscape import script_data, sheet_style
from stillhouse.report.markup import Html
from stillhouse.report.read import read_run
from stillhouse.report.sections import body, recipe_name


def write_report(run_directory: Path) -> Path:
    """Write `report.html`, which needs no other file and no network.

    Args:
        run_directory: a run, finished or not; files that are missing leave their sections out.

    Returns:
        The path of the page.

    Raises:
        RunError: there is no run, one of its files is damaged, or the page cannot be written.
    """
    path = run_directory / "report.html"
    page = render(read_run(run_directory))
    write_atomically(path, page.encode("utf-8", "replace"))  # a file name may hold halves of characters
    return path


def render(run: RunFacts) -> str:
    """The whole page about a run as text."""
    content, charts = body(run)
    title = f"{recipe_name(run)}: {run.name}"
    for atlas in run.atlas:
        return assembled(
            title, content, charts, data=script_data(atlas), scripts=("atlas.js",), style=sheet_style(atlas)
        )
    return assembled(title, content, charts)


def assembled(
    title: str,
    content: Html,
    charts: Mapping[str, Chart],
    *,
    data: Html = Html(""),  # noqa: B008 (a constant)
    scripts: Sequence[str] = (),
    style: str = "",
) -> str:
    """A page with charts as text; its own policy forbids every request and every script but those inside.

    Args:
        title: of the window, as plain text.
        content: what lies between the edges of the page.
        charts: plotly figures by the id of their place in `content`.
        data: elements that further scripts read.
        scripts: names of further scripts beside this file, run when the charts are drawn.
        style: rules beside those of the house.
    """
    drawn = json.dumps(charts, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return framed(
        title,
        Html(f"<noscript><p>The charts need JavaScript; the tables do not.</p></noscript>\n{content}"),
        data=Html(f'<script type="application/json" id="charts">{drawn}</script>{data}'),
        scripts=(get_plotlyjs(), packaged("charts.js"), *map(packaged, scripts)),
        style=style,
    )
