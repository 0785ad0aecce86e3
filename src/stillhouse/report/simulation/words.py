"""The outcome in words: who ended best, by how much, how surely, and what became of attackers."""

from collections import Counter
from collections.abc import Sequence

from stillhouse.report.simulation.measuring import each, gain, mean
from stillhouse.report.simulation.records import Run, Study
from stillhouse.report.simulation.table import size_unit
from stillhouse.report.verdict import Tile
from stillhouse.report.wording import SPACE, duration, percent, points


def headline(study: Study) -> str:
    """Which rule ended best, by how much over the core and over the best one to compare with."""
    winner, runs = _winner(study)
    final, gained = each(runs, lambda run: run.end.test).mean, each(runs, gain).mean
    seeds = f", mean of {len(runs)} seeds" if len(runs) > 1 else ", one seed"
    standing = f"{_distance(gained)} the core alone{_against(study)}{_next(study)}"
    return f"\u201c{winner}\u201d ended best: {percent(final)} of test images right{seeds}, {standing}. {_lowest(runs)}"


def attack_sentence(study: Study) -> str:
    """What the best one took from attackers and from honest users; empty where nobody attacks."""
    winner, runs = _winner(study)
    kinds = sorted({attack for run in runs for attack in run.attacks.values() if attack})
    if not kinds:
        return ""
    taken: Counter[tuple[bool, bool]] = Counter(
        (bool(run.attacks[visit.user]), visit.state == "applied")
        for run in runs
        for visit in run.visits
        if visit.state != "lost"
    )
    (bad, all_bad), (good, all_good) = (
        (taken[attacks, True], taken[attacks, True] + taken[attacks, False]) for attacks in (True, False)
    )
    works = mean([run.lessons[-1].backdoor for run in runs if run.lessons])
    backdoor = f" At the end the backdoor works on {percent(works)} of stamped images." if works == works else ""
    return (
        f"\u201c{winner}\u201d applied {bad:,} of {all_bad:,} returns of attackers ({', '.join(kinds)}) and "
        f"{good:,} of {all_good:,} of honest users.{backdoor}"
    )


def missing_sentence(study: Study) -> str:
    """How many runs are complete, and which are not."""
    count, total = len(study.runs), len(study.runs) + len(study.missing)
    if not study.missing:
        return f"All {total} runs are complete." if total > 1 else "The only run is complete."
    shown = ", ".join(study.missing[:6]) + ", \u2026" * (len(study.missing) > 6)
    return f"{count} of {total} runs are complete; missing: {shown}."


def tiles(study: Study) -> list[Tile]:
    """Key figures of the best contestant."""
    winner, runs = _winner(study)
    final, core, gained = (each(runs, of) for of in (lambda run: run.end.test, lambda run: run.start.test, gain))
    worst = each(runs, lambda run: min(moment.test for moment in run.history) - run.start.test).mean
    fates = Counter(visit.state for run in runs for visit in run.visits)
    crossed = each(runs, lambda run: run.bytes).mean
    scale, unit = size_unit(crossed)
    spread = f" \u00b1 {100 * final.deviation:.1f}" if final.deviation == final.deviation else ""
    return [
        Tile(label="Best at the end", value=percent(final.mean), note=f"{winner}{spread}"),
        Tile(label="Gain over the core", value=points(gained.mean), note=f"points against {percent(core.mean)}"),
        Tile(label="Lowest on the way", value=points(worst), note="points against the core"),
        Tile(
            label="Visits",
            value=f"{fates.total():,}",
            note=f"{fates['applied']:,} applied, {fates['refused']:,} refused, {fates['lost']:,} lost",
        ),
        Tile(label="Traffic", value=f"{crossed / scale:.1f}{SPACE}{unit}", note="both ways, a run"),
        Tile(label="Virtual time", value=duration(each(runs, lambda run: run.end.time).mean), note="a run"),
    ]


def _winner(study: Study) -> tuple[str, Sequence[Run]]:
    return next(iter(study.contestants.items()))


def _rivals(study: Study) -> list[str]:
    """The others; where the best one is of our rule, baselines alone, else those that are none; best first."""
    winner, *others = study.contestants
    return [name for name in others if study.is_baseline(name) != study.is_baseline(winner)] or others


def _against(study: Study) -> str:
    """How far the best of the rivals is behind, and in how many seeds."""
    winner, runs = _winner(study)
    for rival in _rivals(study)[:1]:
        ends = {run.start.seed: run.end.test for run in study.contestants[rival]}
        ahead = [run.end.test > ends[run.start.seed] for run in runs if run.start.seed in ends]
        kind = "the best baseline" if study.is_baseline(rival) else "the best that is no baseline"
        kind = kind if study.is_baseline(rival) != study.is_baseline(winner) else "the next best"
        surely = f" (ahead in {sum(ahead)} of {len(ahead)} seeds)" if len(ahead) > 1 else ""
        return f" and {_distance(_lead(study, rival))} \u201c{rival}\u201d, {kind}{surely}"
    return ""


def _next(study: Study) -> str:
    """The second of all, unless it has been told of."""
    _, *others = study.contestants
    if not others or others[0] in _rivals(study)[:1]:
        return ""
    return f"; \u201c{others[0]}\u201d is next, {100 * _lead(study, others[0]):.1f} points behind"


def _lead(study: Study, other: str) -> float:
    """Of the best one over another, in the mean."""
    own, their = (each(runs, lambda run: run.end.test).mean for runs in (_winner(study)[1], study.contestants[other]))
    return own - their


def _distance(difference: float) -> str:
    """A difference of two shares in words."""
    rounded = round(100 * difference, 1)
    if not rounded:
        return "level with"
    return f"{abs(rounded):.1f} points {'above' if rounded > 0 else 'below'}"


def _lowest(runs: Sequence[Run]) -> str:
    fallen = {run.start.seed: min(moment.test for moment in run.history) - run.start.test for run in runs}
    below = [fall for fall in fallen.values() if fall < 0]
    if not below:
        return "It never fell below the core it began with."
    where = f" in {len(below)} of {len(runs)} seeds" if len(runs) > 1 else ""
    depth = round(-100 * min(below), 1)
    return f"On the way it fell below the core it began with{where}, by {depth or 'less than 0.1'} points at most."
