"""Where an encoder comes from: data, method, teachers, the run it began from, its weights, licences and versions."""

from collections.abc import Iterator, Mapping

from stillhouse.report.facts import RunFacts
from stillhouse.report.markup import Html, tag
from stillhouse.report.read import setting
from stillhouse.report.values import Tree


def lineage(run: RunFacts) -> Html:
    """A table of everything that is known; empty where nothing is."""
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", value, *[tag("small", note)] * bool(note)))
        for name, value, note in _entries(run)
        if value
    ]
    return tag("table", tag("tbody", *rows), class_="lineage") if rows else Html("")


def _entries(run: RunFacts) -> Iterator[tuple[str, str, str]]:
    """What it is, its value, and a note below it."""
    recipe, card = run.recipe, run.card
    yield "Method", _first(card, recipe, "method", "method.name"), _text(recipe, "about.source")
    told = {"with": "labels were used", "without": "no labels were used"}.get(_text(card, "labels"), "")
    yield "Training images", _first(card, recipe, "data", "data.uri"), told
    yield from _teachers(recipe, card)
    start = card.get("start") or recipe.get("start")
    if isinstance(start, Mapping):
        yield "Began from", _text(start, "source"), _hash(start)
    yield "Weights", _text(card, "sha256")[:16], "first digits of their SHA-256"
    evaluated = run.evaluation
    yield "Judged with", evaluated.data.train, "labelled images" if evaluated.data.classes else ""
    yield "Judged on", evaluated.data.test, _same_weights(run)
    yield "Licence of the weights", _text(card, "license"), ""
    for name, version in _versions(card):
        yield f"Version of {name}", version, ""


def _teachers(recipe: Tree, card: Tree) -> Iterator[tuple[str, str, str]]:
    more = card.get("more_teachers") or setting(recipe, "teacher.more") or []
    listed = [card.get("teacher") or recipe.get("teacher"), *(more if isinstance(more, list) else [])]
    for teacher in listed:
        if isinstance(teacher, Mapping):
            license_ = _text(teacher, "license")
            notes = (_hash(teacher), f"licence {license_}" if license_ else "")
            yield "Teacher", _text(teacher, "source"), "; ".join(filter(None, notes))


def _versions(card: Tree) -> Iterator[tuple[str, str]]:
    versions = card.get("versions", {})
    for name, version in versions.items() if isinstance(versions, Mapping) else ():
        yield str(name), str(version)


def _same_weights(run: RunFacts) -> str:
    judged, kept = str(run.evaluation.encoder.get("weights_sha256") or ""), _text(run.card, "sha256")
    return "other weights than those of the run by now: evaluate again" if judged and kept and judged != kept else ""


def _hash(tree: Tree) -> str:
    found = _text(tree, "sha256") or _text(tree, "digest")
    return f"SHA-256 {found[:16]}" if found else ""


def _first(card: Tree, recipe: Tree, in_card: str, in_recipe: str) -> str:
    return _text(card, in_card) or _text(recipe, in_recipe)


def _text(tree: Tree, name: str) -> str:
    value = setting(tree, name)
    return value if isinstance(value, str) else ""
