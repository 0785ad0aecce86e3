"""The page itself: `page.html` with everything it needs put inside."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from stillhouse.files import write_atomically
from stillhouse.report.charts import Chart
from stillhouse.report.facts import RunFacts
from stillhouse.report.markup import Html
from stillhouse.report.read import read_run
from stillhouse.report.sections import body, recipe_name

HERE = Path(__file__).parent
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


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
    return assembled(f"{recipe_name(run)}: {run.name}", *body(run))


def assembled(title: str, content: Html, charts: Mapping[str, Chart]) -> str:
    """A page as text; its own policy forbids every request and every script but the two inside.

    Args:
        title: of the window, as plain text.
        content: what lies between the edges of the page.
        charts: plotly figures by the id of their place in `content`.
    """
    plotly, drawing = (source.replace("</script", "<\\/script") for source in (get_plotlyjs(), _packaged("charts.js")))
    return Template(_packaged("page.html")).substitute(
        policy=f"{POLICY}; script-src {_hash(plotly)} {_hash(drawing)}",
        title=html.escape(title),
        style=_packaged("style.css"),
        body=content,
        charts=json.dumps(charts, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        plotly=plotly,
        drawing=drawing,
    )


def _packaged(name: str) -> str:
    return (HERE / name).read_text("utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
