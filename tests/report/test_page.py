"""The page as a browser gets it: alone, complete, escaped, small, and silent about what was not measured."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from stillhouse.report import write_report
from tests.report.runs import (
    RECIPE,
    evaluation,
    health,
    knn,
    log,
    make_full_run,
    make_run,
    result,
    samples,
    save_samples,
    step,
)

SECTIONS = ["blocks", "monitor", "losses", "health", "alignment", "samples", "results"]
SECTIONS += ["lineage", "settings", "quarantine"]
EVIL = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"\'&<a href="https://evil.example">%{x} $title'


@pytest.fixture
def full_run(tmp_path: Path) -> Path:
    return make_full_run(tmp_path)


class Page(HTMLParser):
    """What a browser would make of the page: elements, text, scripts, charts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text("utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.styles = self.text = ""
        self.feed(self.source)
        self.charts = json.loads(self.scripts[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem == "style":
            self.styles += data
        else:
            self.text += data

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for tag, attributes in self.elements if tag == "section" and "id" in attributes]

    def attributes(self) -> Iterator[tuple[str, str, str]]:
        for tag, attributes in self.elements:
            for name, value in attributes.items():
                yield tag, name, value


def page_of(run: Path) -> Page:
    return Page(write_report(run))


def test_the_page_of_a_whole_run_has_every_section_in_order(full_run: Path) -> None:
    assert page_of(full_run).sections == SECTIONS


@pytest.mark.parametrize(
    ("missing", "sections"),
    [
        ("evaluation.json", {"blocks", "alignment", "results"}),
        ("log.jsonl", {"monitor", "losses", "health"}),
        ("samples.npz", {"samples"}),
        ("quarantine.txt", {"quarantine"}),
    ],
)
def test_a_missing_file_leaves_out_its_sections_alone(full_run: Path, missing: str, sections: set[str]) -> None:
    (full_run / missing).unlink()
    assert page_of(full_run).sections == [name for name in SECTIONS if name not in sections]


def test_settings_stay_away_without_recipe_and_card(full_run: Path) -> None:
    (full_run / "evaluation.json").unlink()
    (full_run / "recipe.toml").unlink()
    assert "settings" in page_of(full_run).sections
    (full_run / "encoder" / "card.json").unlink()
    assert not {"settings", "lineage"} & set(page_of(full_run).sections)


def test_nothing_is_loaded_from_elsewhere(full_run: Path) -> None:
    page = page_of(full_run)
    loading = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction", "ping", "background"}
    loaded = [(name, value) for _, name, value in page.attributes() if name in loading]
    assert loaded
    assert [value for _, value in loaded if not value.startswith("data:")] == []
    assert not re.search(r"@import|url\(", page.styles)
    assert not re.search(r"\bimport\b|fetch\(|https?:", page.scripts[2])
    assert not {"iframe", "object", "embed", "base", "form", "a"} & {tag for tag, _ in page.elements}


def test_the_policy_of_the_page_forbids_requests_and_foreign_scripts(full_run: Path) -> None:
    page = page_of(full_run)
    policy = next(attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert re.fullmatch(r"('sha256-[\w+/]{43}='( |$)){2}", rules["script-src"])
    assert len(page.scripts) == 3


def test_plotly_is_inside_once_and_the_page_is_small(full_run: Path) -> None:
    save_samples(full_run, samples(side=300, num_views=10))
    many = {f"term {number}": 1.0 / 3 for number in range(40)}
    (full_run / "log.jsonl").write_text(log(*(step(number, terms=many) for number in range(5000))))
    page = page_of(full_run)
    assert page.source.count(get_plotlyjs()[:2000]) == 1
    assert len(page.source.encode()) < 6_000_000


def test_every_chart_is_a_valid_figure_with_a_place(full_run: Path) -> None:
    page = page_of(full_run)
    places = {attributes.get("id", "") for _, attributes in page.elements}
    assert len(page.charts) == 9
    assert set(page.charts) <= places
    colors = set(re.findall(r"(--[\w-]+):", page.styles))
    for chart in page.charts.values():
        used = set(re.findall(r'color": "(--[\w-]+)', json.dumps(chart)))
        assert used
        assert used <= colors
        go.Figure(json.loads(re.sub(r'color": "--[\w-]+', 'color": "red', json.dumps(chart))))


def test_key_figures_and_judgement_are_those_of_the_evaluation(full_run: Path) -> None:
    text = page_of(full_run).text.replace("\u202f", " ")
    assert (
        "Block 2 of 3 is the best layer, with 58.7 % k-NN accuracy, clearly above raw pixels and an untrained" in text
    )
    for value in ("57.1 %", "+24.8", "+25.9", "210", "3 min", "training complete", "50,000", "vit_micro, 3 blocks"):
        assert value in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    scores = [
        result(subject, block, 0.4, EVIL) | {"settings": {EVIL: EVIL}}
        for subject in ("encoder", EVIL)
        for block in (1, 2)
    ]
    name = json.dumps(EVIL)
    data = {"train": EVIL, "test": EVIL, "classes": [EVIL]}
    run = make_run(
        tmp_path,
        {
            "recipe.toml": f"[method]\nname = {name}\n[{name}]\n{name} = {name}\n",
            "log.jsonl": log(step(1, terms={EVIL: 1.0, "--ink": 2.0}), health(1, sentence=EVIL), step(2)),
            "evaluation.json": json.dumps(evaluation(data=data, encoder={"name": EVIL}, results=scores)),
            "quarantine.txt": f"{EVIL}\t{EVIL}\n\ud800.jpg".encode("utf-8", "replace").decode(),
            "encoder/card.json": json.dumps({EVIL: {EVIL: "\ud800"}}),
        },
    )
    page = page_of(run)
    assert page.text.count(EVIL) > 10
    assert len(page.scripts) == 3
    assert not {"img", "a"} & {tag for tag, _ in page.elements}
    assert not [name for _, name, _ in page.attributes() if name.startswith("on")]
    assert all("<" not in trace["name"] for chart in page.charts.values() for trace in chart["data"])
    assert all("<" not in note["text"] for chart in page.charts.values() for note in chart["layout"]["annotations"])


@pytest.mark.parametrize("hidden", [True, False])
def test_without_labels_no_accuracy_is_shown_and_one_line_says_so(tmp_path: Path, hidden: bool) -> None:
    data = {"train": "photos/", "test": "photos/", "classes": []}
    run = make_run(
        tmp_path,
        {
            "recipe.toml": RECIPE.replace("labels = true", "labels = false") if hidden else RECIPE,
            "log.jsonl": log(step(10), health(10), *[knn(10, 0.777)] * hidden),
            "evaluation.json": json.dumps(evaluation(data=data, results=[result("encoder", 1, 0.777)])),
        },
    )
    page = page_of(run)
    assert page.sections == ["losses", "health", "alignment", "lineage", "settings"]
    assert page.text.count("accuracy") == 1
    assert "so no accuracy is shown." in page.text
    assert "77.7" not in page.source.replace(get_plotlyjs(), "")
    assert "k-NN" not in page.text


def test_a_run_in_progress_shows_what_it_measured_so_far(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, {"recipe.toml": RECIPE, "log.jsonl": log(step(100), knn(100, 0.2, 0.4, 0.3)) + '{"kind": "step", "st'}
    )
    page = page_of(run)
    text = page.text.replace("\u202f", " ")
    assert page.sections == ["monitor", "losses", "lineage", "settings"]
    assert "25 % of training done" in text
    assert "After 2 epochs block 2 of 3 is the best layer, with 40.0 % k-NN accuracy" in text
    assert "Gain over" not in text


def test_one_step_is_a_page(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, {"log.jsonl": log(step(1))}))
    assert page.sections == ["losses"]
    assert [trace["x"] for trace in page.charts["losses-0"]["data"]] == [[1.0]] * 3


def test_numbers_that_are_not_finite_leave_gaps_and_are_said(tmp_path: Path) -> None:
    lost = step(30, loss=float("nan"), terms={"contrast": float("inf"), "intermediate": None}, seconds=float("nan"))
    page = page_of(make_run(tmp_path, {"log.jsonl": log(step(10), step(20), lost, knn(30, float("nan"), 0.5))}))
    assert [trace["y"][-1] for trace in page.charts["losses-0"]["data"]] == [None] * 3
    assert "The loss is not finite at step 30" in page.text
    assert page.charts["monitor-0"]["data"][0]["y"] == [None]


def test_a_run_that_lost_everything_is_still_a_page(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {
        "loss": None,
        "terms": {},
        "learning_rate": None,
        "images_per_second": None,
        "seconds": None,
    }
    page = page_of(
        make_run(tmp_path, {"log.jsonl": log(step(1, **nothing), health(1, spread=None, effective_rank=None))})
    )
    assert page.sections == []
    assert "The loss is not finite at step 1" in page.text
