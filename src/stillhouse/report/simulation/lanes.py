"""The visits of one run: who was there, and a lane for every user."""

from collections.abc import Sequence

from stillhouse.report.charts import LAYOUT, MARGINS, QUIET_AXIS, Axes, Chart, Line, line_chart, plain
from stillhouse.report.curves import Figure
from stillhouse.report.simulation.marks import FATE_COLORS, Clock, short, signs, step
from stillhouse.report.simulation.measuring import has_flow, live
from stillhouse.report.simulation.records import FATES, Fate, Run, User, Visit
from stillhouse.report.wording import duration

SIGNS: dict[Fate, str] = {"applied": "circle", "refused": "x", "lost": "circle-open"}
ROW = 20  # pixels of one user
MOST_LANES = 60


def live_users(run: Run, clock: Clock) -> list[Figure]:
    """Who was there in one run, with every decision on the line; nothing where nobody came or went."""
    if not has_flow(run):
        return []
    times = sorted({0.0, *(move.time for move in run.moves), run.end.time})
    x, y = [time / clock.seconds for time in times], [float(live(run, time)) for time in times]
    line = Line(name="live users", x=x, y=y, color="--baseline", named=False)
    axes = Axes(x_title=clock.title, y_span=(0.0, max(y) * 1.12 or 1.0), height=220)
    chart = line_chart([line], axes)
    step(chart["data"][0])
    for fate in FATES:
        times = [visit.time for visit in run.visits if visit.state == fate]
        chart["data"].append(signs(times, [live(run, time) for time in times], fate, clock, SIGNS[fate]))
    chart["layout"] |= {"margin": MARGINS | {"l": _margin(run), "r": 18}, "hovermode": "closest"}
    chart["layout"]["xaxis"] |= {"range": _range(run, clock)}
    chart["layout"]["yaxis"] |= {"automargin": False, "dtick": max(1, round(max(y) / 4))}
    told = "How many are there, and what was decided when"
    return [Figure(title="Live users", caption=told, chart=chart)]


def timeline(run: Run, clock: Clock) -> list[Figure]:
    """A lane for every user: its visits from dispatch to decision, on the time it was there."""
    if not run.visits:
        return []
    users = _shown(run)
    lanes = {user.name: number for number, user in enumerate(users)}
    stays = [(lanes[user], begin, end, "") for user, begin, end in _stays(run) if user in lanes]
    there = _bars(stays, clock, "there", "--rule", 0.9)
    there |= {"hoverinfo": "skip"}
    drawn = [there] + [
        _bars(
            [
                (lanes[visit.user], visit.sent, visit.time, _hover(run, visit))
                for visit in run.visits
                if visit.state == fate and visit.user in lanes
            ],
            clock,
            fate,
            FATE_COLORS[fate],
            0.62,
        )
        for fate in FATES
    ]
    names = [plain(user.name + f" \u2020 {user.attack}" * bool(user.attack), 22) for user in users]
    height = MARGINS["t"] + MARGINS["b"] + ROW * max(4, len(lanes))
    layout: Chart = LAYOUT | {
        "height": height,
        "hovermode": "closest",
        "barmode": "overlay",
        "margin": MARGINS | {"l": _margin(run), "r": 18},
        "xaxis": QUIET_AXIS
        | {
            "title": {"text": clock.title, "standoff": 6, "font": {"size": 12}},
            "range": _range(run, clock),
            "showgrid": False,
            "linecolor": "--rule",
            "nticks": 8,
        },
        "yaxis": QUIET_AXIS
        | {
            "tickvals": list(lanes.values()),
            "ticktext": names,
            "range": [len(lanes) - 0.4, -0.6],
            "showgrid": False,
            "ticklen": 2,
            "tickfont": {"size": 11},
        },
    }
    dagger = "; \u2020 attacks" * any(run.attacks.values())
    some = f"; {len(users)} of {len(run.start.users):,} users" * (len(users) < len(run.start.users))
    told = f"Bars reach from dispatch to decision; pale: the user is there{dagger}{some}"
    return [Figure(title="Who had a clone when", caption=told, chart={"data": drawn, "layout": layout})]


def _bars(bars: Sequence[tuple[int, float, float, str]], clock: Clock, name: str, color: str, width: float) -> Chart:
    """Lying bars (lane, begin, end, words when pointed at)."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": [lane for lane, *_ in bars],
        "base": [short(begin / clock.seconds) for _, begin, _, _ in bars],
        "x": [short(max(0.0, end - begin) / clock.seconds) for _, begin, end, _ in bars],
        "width": width,
        "marker": {"color": color, "line": {"width": 1, "color": "--page"}},
        "hovertext": [text for *_, text in bars],
        "hoverinfo": "text",
    }


def _shown(run: Run) -> Sequence[User]:
    """All users, or of very many the first ones that had a clone."""
    if len(run.start.users) <= MOST_LANES:
        return run.start.users
    visitors = {visit.user for visit in run.visits}
    return [user for user in run.start.users if user.name in visitors][:MOST_LANES]


def _stays(run: Run) -> list[tuple[str, float, float]]:
    """From when to when every user was there; who was never seen to come or go was there all the time."""
    moved = {move.user for move in run.moves}
    came: dict[str, float] = {}
    stays = [(user.name, 0.0, run.end.time) for user in run.start.users if user.name not in moved and not run.moves]
    for move in run.moves:
        if move.kind == "joined":
            came[move.user] = move.time
        else:
            stays.append((move.user, came.pop(move.user, 0.0), move.time))
    return stays + [(user, time, run.end.time) for user, time in came.items()]


def _hover(run: Run, visit: Visit) -> str:
    attack = run.attacks[visit.user]
    behind = f"{visit.staleness or 'no'} version{'s' * (visit.staleness != 1)} behind"
    lines = [
        f"{plain(visit.user)}{f' ({plain(attack)})' if attack else ''}: {visit.state}",
        f"{duration(visit.sent)} to {duration(visit.time)}, {behind}",
        *[plain(visit.reason, 110)] * bool(visit.reason),
    ]
    return "<br>".join(lines)


def _margin(run: Run) -> int:
    longest = max((len(user.name) + 3 * bool(user.attack) + len(user.attack) for user in run.start.users), default=0)
    return 24 + round(6.4 * min(22, longest))


def _range(run: Run, clock: Clock) -> list[float]:
    end = run.end.time / clock.seconds or 1.0
    return [-0.01 * end, 1.01 * end]
