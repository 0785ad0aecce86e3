"""What happened to a fleet, and where a person would have seen it: in logs, in `edge status`, on the status page."""

import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fleet_hostile import MALFORMED
from fleet_program import Line, read_log
from fleet_run import LATE_VERSION, SLOW, Record
from fleet_setup import HOSTILE, Fleet
from timing import Row

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
Shown = Callable[[str], str]
"""From everything that was shown at one moment to the part that shows an event; empty where nothing does."""


@dataclass(frozen=True)
class Event:
    """Something that happened, and the first sight of it in every place, with its minute; empty where there is none."""

    device: str
    what: str
    log: str
    status: str
    page: str


def events(fleet: Fleet, record: Record) -> list[Event]:
    """Every event of a fleet that has done its work."""
    texts, pages = _seen(fleet, "status.txt"), [(when, as_text(page)) for when, page in _seen(fleet, "page.html")]

    def event(device: str, what: str, said: Sequence[str], shown: Shown) -> Event:
        places = (
            _first(read_log(fleet.folder / f"{device}.log"), line(*said)),
            _first(texts, shown),
            _first(pages, shown),
        )
        return Event(device, what, *(_told(place, record.began) for place in places))

    gone_on, ended = ("goes on",), ("lost because",)
    looked_at, silent = "joins, and its return is looked at", ("lost", "silent")
    waited = "its return waits on the disk and comes late"
    return [
        event("usual", "returns, and teaches", ("sent:",), line("usual", "applied")),
        event("slow", f"runs {SLOW:.0f} times slower: a visit takes over three times as long", ("sent:",), slower),
        event("killed", "is killed while it trains, goes on, and teaches", gone_on, line("killed", "applied")),
        event("killed", "is killed again, counts as lost, takes another clone", ended, line("killed", *silent)),
        event("late", f"is not there until version {LATE_VERSION}", ("clone of version",), line("late", "never")),
        event("late", looked_at, ("sent:",), line_of("late", "applied", "refused")),
        event("offline", "its line is cut: it counts as lost", ("no link",), line("offline", *silent)),
        event("offline", waited, ("sent:",), line_of("offline", "applied", "refused")),
        event(HOSTILE, "is refused with a reason", ("refused because",), line(HOSTILE, "refused", "does not help")),
        event(HOSTILE, "is quarantined", ("shut out",), line(HOSTILE, "quarantined")),
    ]  # fmt: skip


def attempts(fleet: Fleet) -> list[Row]:
    """What the hostile device tried, and what became of each attempt."""
    said = [text.split(": ", 1) for _, text in read_log(fleet.folder / f"{HOSTILE}.log") if ": " in text]
    rows = [(what, outcome, "a strike" if what in MALFORMED and "refused" in outcome else "") for what, outcome in said]
    return [{"attempt": what, "answer": outcome, "": strike} for what, outcome, strike in rows]


def line(*words: str) -> Shown:
    """The first line that holds all these words."""
    return lambda text: next((one for one in text.splitlines() if all(word in one for word in words)), "")


def line_of(name: str, *states: str) -> Shown:
    """The first lease of a device that is in one of these states."""
    wanted = re.compile(rf"^\s*{name}\s+({'|'.join(states)})\b.*", re.MULTILINE)

    def shown(text: str) -> str:
        found = wanted.search(text)
        return found[0] if found else ""

    return shown


def slower(text: str) -> str:
    """The line of the slow device, once a visit of it takes more than three times as long as one of the usual one."""
    seconds = {name: _visit_seconds(name, text) for name in ("usual", "slow")}
    return line("slow", "ago")(text) if 0 < 3 * seconds["usual"] < seconds["slow"] else ""


def as_text(page: str) -> str:
    """The tables of a page, one line a row."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    cells = [[html.unescape(re.sub("<.*?>", "", cell)) for cell in re.split("</t[dh]>", row)] for row in rows]
    return "\n".join("  ".join(row) for row in cells)


def _visit_seconds(name: str, text: str) -> float:
    """What a visit of a device takes, as its line says; 0 where it says nothing."""
    found = re.search(rf"^\s*{name}\s+active\s.*?ago\s+(\d+) (s|min|h|d)\b", text, re.MULTILINE)
    return int(found[1]) * UNITS[found[2]] if found else 0.0


def _seen(fleet: Fleet, kind: str) -> list[Line]:
    """What was shown at every look."""
    paths = sorted((fleet.folder / "seen").glob(f"*-{kind}"))
    return [(float(path.name.split("-")[0]), path.read_text()) for path in paths]


def _first(seen: Sequence[Line], shown: Shown) -> Line | None:
    return next(_sights(seen, shown), None)


def _sights(seen: Sequence[Line], shown: Shown) -> Iterator[Line]:
    for when, text in seen:
        if part := shown(text):
            yield when, part


def _told(sight: Line | None, began: float) -> str:
    if sight is None:
        return ""
    when, text = sight
    return f"{(when - began) / 60:.1f} min: {' '.join(text.split())}"
