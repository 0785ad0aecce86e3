"""Tables and lists of the page: verdict, results, settings, quarantine."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence

from stillhouse.report.evaluated import Evaluation, Result, Verdict
from stillhouse.report.markup import Html, joined, tag
from stillhouse.report.values import Tree
from stillhouse.report.wording import percent, points, sentence

NUM_REASONS = 6
NUM_EXAMPLES = 20


def results_table(evaluation: Evaluation, protocol: str) -> Html:
    """Accuracies of one protocol: a row per block, a column per subject, raw pixels below."""
    named = dict.fromkeys(result.subject for result in evaluation.results if result.protocol == protocol)
    subjects = [subject for subject in named if subject != "pixels"]
    by_place = {(name, result.block): result for name in subjects for result in evaluation.of(protocol, name)}
    compared = {"encoder", "untrained"} <= set(subjects)
    best = evaluation.best(protocol, "encoder")
    shared = _shared_settings(tuple(by_place.values()))
    head = tag("tr", *(tag("th", title, scope="col") for title in ["block", *subjects, *["gain"] * compared]))
    rows = []
    for block in sorted({block for _, block in by_place}):
        row = [by_place.get((subject, block)) for subject in subjects]
        gain = [_gain_cell(by_place.get(("encoder", block)), by_place.get(("untrained", block)))] * compared
        rows.append(
            tag(
                "tr",
                tag("th", str(block), scope="row"),
                *(_result_cell(cell, shared, cell in best) for cell in row),
                *gain,
            )
        )
    for pixels in evaluation.of(protocol, "pixels"):
        empty = [tag("td")] * (len(subjects) + compared - 1)
        rows.append(tag("tr", tag("th", "raw pixels", scope="row"), _result_cell(pixels, shared, False), *empty))
    said = ", ".join(f"{name} {written(value)}" for name, value in shared.items())
    caption = tag("caption", protocol, *[tag("small", said)] * bool(said))
    return tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="results")


def _shared_settings(results: Sequence[Result]) -> Tree:
    """Settings that all results have in common; they are said once."""
    first = results[0].settings if results else {}
    return {key: value for key, value in first.items() if all(other.settings.get(key) == value for other in results)}


def _result_cell(result: Result | None, shared: Tree, is_best: bool) -> Html:
    if result is None:
        return tag("td", "\u2013")
    interval = "\u2013".join(f"{100 * end:.1f}" for end in result.bounds) if result.has_interval else ""
    chosen = ", ".join(f"{name} {written(value)}" for name, value in result.settings.items() if name not in shared)
    emphasis = "strong" if is_best else "span"
    details = [tag("small", detail) for detail in (interval, chosen) if detail]
    return tag("td", tag(emphasis, percent(result.accuracy)), *details)


def _gain_cell(encoder: Result | None, untrained: Result | None) -> Html:
    if encoder is None or untrained is None:
        return tag("td", "\u2013")
    return tag("td", points(encoder.accuracy - untrained.accuracy), class_="gain")


def verdict_lines(found: Verdict) -> list[Html]:
    """A verdict: its level, why, and what to try; nothing where nobody judged."""
    if not found.level:
        return []
    state = "good" if found.level == "healthy" else "open"
    words = found.because or ((found.sentence,) if found.sentence else ())
    because = [tag("ul", *(tag("li", sentence(reason)) for reason in words))] * bool(words)
    advice = [tag("p", sentence(found.advice))] * bool(found.advice)
    level = tag("p", found.level.capitalize(), class_="level")
    return [tag("div", level, *because, *advice, class_=f"verdict {state}")]


def settings_tables(tree: Tree, name: str) -> list[Html]:
    """A table per branch of a settings tree, headed by its dotted name."""
    return [
        tag("section", tag("h3", branch), _settings_table(leaves), class_="card")
        for branch, leaves in _branches(tree, name, "")
        if leaves
    ]


def _branches(tree: Tree, name: str, prefix: str) -> Iterator[tuple[str, Tree]]:
    """A tree's own leaves under `name`, then every branch; tables in a list are branches with a number."""
    branches = {key: value for key, value in tree.items() if isinstance(value, dict)}
    lists = {key: value for key, value in tree.items() if isinstance(value, list) and _holds_tables(value)}
    branches |= {f"{key}[{number}]": table for key, tables in lists.items() for number, table in enumerate(tables)}
    yield name, {key: value for key, value in tree.items() if key not in branches and key not in lists}
    for key, value in branches.items():
        yield from _branches(value, f"{prefix}{key}", f"{prefix}{key}.")


def _holds_tables(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


def _settings_table(leaves: Tree) -> Html:
    rows = [tag("tr", tag("th", str(key), scope="row"), tag("td", written(value))) for key, value in leaves.items()]
    return tag("table", tag("tbody", *rows))


def written(value: object) -> str:
    """A setting in words."""
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return ", ".join(map(written, value)) or "none"
    return json.dumps(value, default=str, ensure_ascii=False)


def quarantine_summary(lines: Sequence[str]) -> Html:
    """How many images were left out, for which reasons, and the first ones by name."""
    reasons = Counter(_split(line)[1] for line in lines)
    common = reasons.most_common(NUM_REASONS)
    rest = len(lines) - sum(count for _, count in common)
    items = [tag("li", tag("b", f"{count:,}"), f" {reason}") for reason, count in common]
    items += [tag("li", tag("b", f"{rest:,}"), " for other reasons")] * bool(rest)
    examples = [tag("li", _split(line)[0]) for line in lines[:NUM_EXAMPLES]]
    what = (
        "The image"
        if len(lines) == 1
        else f"The first {len(examples)}"
        if len(examples) < len(lines)
        else "All of them"
    )
    listed = tag("details", tag("summary", what), tag("ul", *examples, class_="names"))
    said = "1 image was left out." if len(lines) == 1 else f"{len(lines):,} images were left out."
    return joined([tag("p", said), tag("ul", *items, class_="reasons"), listed])


def _split(line: str) -> tuple[str, str]:
    """Name and reason, which a tab separates."""
    name, _, reason = line.partition("\t")
    return name, reason.strip() or "no reason given"
