"""A page that shows how the service does: read only, whole in one file, on a port of this machine alone."""

import html
import time
from collections.abc import Iterable, Sequence

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from stillhouse.edge.service.service import Service
from stillhouse.edge.service.status import Status, Version
from stillhouse.edge.service.words import ago, counted, numbers, size, span

REFRESH_SECONDS = 5
LONG = 24
"""Characters from which on a cell may be broken into lines."""
ILL = ("quarantined", "revoked", "refused", "lost")
"""States that stand out."""
WIDTH, HEIGHT = 640, 160
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}

STYLE = """
:root { color-scheme: light dark; --line: #8884; --mark: #2a6fdb; --quiet: #666; --ill: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --mark: #7fb0ff; --quiet: #a0a0a0; --ill: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 500; color: var(--quiet); }
td.long { white-space: normal; }
td.ill { color: var(--ill); }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { margin-top: 2rem; font-size: 1.1rem; }
.quiet { color: var(--quiet); font-size: 13px; overflow-wrap: anywhere; }
svg { max-width: 100%; } polyline { fill: none; stroke: var(--mark); stroke-width: 2; } circle { fill: var(--mark); }
text { fill: var(--quiet); font-size: 12px; }
.scroll { overflow-x: auto; }
"""


def page_app(service: Service) -> Starlette:
    """An application with this one page; it answers only to the names of this machine."""

    async def show(request: Request) -> Response:
        return HTMLResponse(render(await run_sync(service.status)), headers=HEADERS)

    only_here = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return Starlette(routes=[Route("/", show)], middleware=[only_here])


def render(status: Status) -> str:
    """The page as HTML."""
    name = status.score_name
    last = status.versions[-1].score if status.versions else None
    told = f", {html.escape(name)} {last:.4g}" if last is not None else ""
    devices = _table(
        ("device", "state", "lease", "last seen", "visit takes", "applied", "refused", "lost", "strikes", "down", "up"),
        (
            (d.name, d.state, d.doing, ago(status.now - d.last_seen) if d.last_seen else "never",
             span(d.mean_seconds), d.applied, d.refused, d.lost, d.strikes, size(d.bytes_down), size(d.bytes_up))
            for d in status.devices
        ),
    )  # fmt: skip
    visits = _table(
        ("device", "state", "why", "from version", "staleness", "sent out", "deadline", "down", "up"),
        (
            (v.node, v.state, v.reason, v.version, v.staleness, ago(status.now - v.granted),
             span(v.deadline - status.now) if v.state == "out" else "", size(v.bytes_down), size(v.bytes_up))
            for v in status.visits
        ),
    )  # fmt: skip
    lessons = _table(
        ("version", "when", "taught by", "scores", "lesson"),
        (
            (v.version, ago(status.now - v.taught), ", ".join(v.by), numbers(v.scores), numbers(v.measures))
            for v in reversed(status.versions[-20:])
        ),
    )
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.now))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<meta name="viewport" content="width=device-width"><title>stillhouse edge</title><style>{STYLE}</style></head><body>
<h1>Core version {status.version}{told}</h1>
<p>{moment}. {counted(len(status.devices), "device")}; {counted(status.waiting, "return")} waiting to teach.
The core has {size(status.size)}; SHA-256 {status.digest}.</p>
{_curve(status.versions, name)}
<h2>Devices</h2>{devices}
<h2>Leases, newest first</h2>{visits}
<h2>Versions, newest first</h2>{lessons}
<p class="quiet">Version {status.version} has {size(status.size)}; SHA-256 {status.digest}</p>
</body></html>
"""


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    first = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join("<tr>" + "".join(_cell(str(cell)) for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{first}</tr>{body}</table></div>'


def _cell(text: str) -> str:
    kind = ' class="ill"' if text in ILL else ' class="long"' if len(text) > LONG else ""
    return f"<td{kind}>{html.escape(text)}</td>"


def _curve(versions: Sequence[Version], name: str) -> str:
    """The score over the versions as a line; empty below two of them."""
    known = [(version.version, version.score) for version in versions if version.score is not None]
    if len(known) < 2:
        return ""
    scores = [score for _, score in known]
    low, high, first, last = min(scores), max(scores), known[0][0], known[-1][0]
    points = [
        (
            40 + (WIDTH - 60) * (version - first) / (last - first),
            20 + (HEIGHT - 50) * (high - score) / (high - low or 1),
        )
        for version, score in known
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return f"""<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{html.escape(name)}">
<polyline points="{line}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>
<text x="0" y="24">{high:.3g}</text><text x="0" y="{HEIGHT - 28}">{low:.3g}</text>
<text x="40" y="{HEIGHT - 8}">version {first}</text>
<text x="{WIDTH - 20}" y="12" text-anchor="end">{html.escape(name)}</text>
<text x="{WIDTH - 20}" y="{HEIGHT - 8}" text-anchor="end">{last}</text>
</svg>"""
