"""The page about a fleet as a browser gets it, the other two files, and the words."""

import json
import re
from pathlib import Path

import plotly.graph_objects as go
import pytest

from stillhouse.report.simulation import write
from stillhouse.report.simulation.read import read_study
from stillhouse.report.simulation.words import attack_sentence, headline, missing_sentence
from tests.report.simulation.fleets import Entry, end, lesson, make_fleet, start, text, user, visit, write_runs
from tests.report.test_page import EVIL, Page

SECTIONS = ["curves", "table-accuracy", "contestants", "recalls", "visits", "staleness", "table-attacks", "table-time"]
SECTIONS += ["table-staleness", "table-flow", "table-cost", "table-bias", "table-fates", "settings"]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten contestants, three seeds, sixty visits, already written about."""
    folder = make_fleet(tmp_path_factory.mktemp("fleets") / "busy")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def page(fleet: Path) -> Page:
    return Page(fleet / "report.html")


def test_every_section_is_there_in_order(page: Page) -> None:
    assert page.sections == SECTIONS


def test_the_page_is_small_and_loads_nothing(page: Page) -> None:
    assert len(page.source.encode()) < 6_000_000
    loading = {"src", "href", "srcset", "action", "data", "poster"}
    assert {value for _, name, value in page.attributes() if name in loading} == {"data:,"}
    assert len(page.scripts) == 3
    assert not {"iframe", "object", "embed", "base", "form", "a", "img"} & {tag for tag, _ in page.elements}


def test_every_chart_is_a_valid_figure_with_a_place_of_its_height(page: Page) -> None:
    places = {attributes.get("id"): attributes for _, attributes in page.elements}
    assert len(page.charts) == 2 + 10 + 2 + 1
    colors = set(re.findall(r"(--[\w-]+):", page.styles))
    for name, chart in page.charts.items():
        written = json.dumps(chart)
        assert set(re.findall(r'color": "(--[\w-]+)', written)) <= colors
        assert places[name]["style"] == f"height: {chart['layout']['height']}px"
        go.Figure(json.loads(re.sub(r'color": "--[\w -]+', 'color": "red', written)))


def test_contestants_have_colors_of_their_own(page: Page) -> None:
    lines = [trace for trace in page.charts["curves-0"]["data"] if trace["name"]]
    assert len({(trace["line"]["color"], trace["line"]["dash"]) for trace in lines}) == len(lines) == 10
    again = {trace["name"]: trace["line"]["color"] for trace in page.charts["curves-1"]["data"] if trace["name"]}
    assert again == {trace["name"]: trace["line"]["color"] for trace in lines}


def test_lanes_reach_from_dispatch_to_decision(fleet: Path, page: Page) -> None:
    study = read_study(fleet)
    run = next(iter(study.contestants.values()))[0]
    bars = {trace["name"]: trace for trace in page.charts["visits-1"]["data"]}
    refused = [visit for visit in run.visits if visit.state == "refused"]
    assert bars["refused"]["base"] == pytest.approx([visit.sent / 60 for visit in refused], abs=1e-4)
    ends = [base + x for base, x in zip(bars["refused"]["base"], bars["refused"]["x"], strict=True)]
    assert ends == pytest.approx([visit.time / 60 for visit in refused], abs=1e-4)
    names = [user.name for user in run.start.users]
    assert [names[lane] for lane in bars["refused"]["y"]] == [visit.user for visit in refused]
    assert all(refused[0].reason in words and " behind" in words for words in bars["refused"]["hovertext"][:1])
    assert sum(len(bars[fate]["y"]) for fate in ("applied", "refused", "lost")) == len(run.visits) == 60


def test_of_very_many_users_some_have_a_lane(tmp_path: Path) -> None:
    people = [user(f"u{number}") for number in range(100)]
    visits = [visit(number, f"u{number}", "refused") for number in range(20, 100)] * 6
    visits.sort(key=lambda line: float(line["time"]))
    folder = write_runs(tmp_path, {"ours/0": [start(people), *visits, end(100, 0.5)]})
    write(folder)
    page = Page(folder / "report.html")
    chart = page.charts["visits-0"]
    assert chart["layout"]["yaxis"]["ticktext"] == [f"u{number}" for number in range(20, 80)]
    assert "60 of 100 users" in page.text
    assert [len(trace["y"]) for trace in chart["data"]] == [60, 0, 360, 0]
    assert len(page.charts["contestants-0"]["data"][3]["x"]) == 240  # of 480


def test_the_three_files_tell_the_same(fleet: Path, page: Page) -> None:
    results = json.loads((fleet / "results.json").read_text())
    best = results["tables"][0]["rows"][0]
    written = f"{100 * best['final']['mean']:.2f} \u00b1 {100 * best['final']['deviation']:.2f}"
    assert written in page.text
    assert written in (fleet / "tables.md").read_text()
    assert results["headline"] in page.text
    assert (results["complete"], results["missing"], len(results["runs"])) == (30, [], 30)
    first = results["runs"][0]
    assert first["contestant"] == best["contestant"]
    assert first["history"][0] == [0.0, 0, first["core"]]
    assert first["history"][-1][2] == first["final"]


def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    folder = make_fleet(tmp_path, contestants=2, seeds=1, users=3, visits=6)
    names = ("results.json", "tables.md", "report.html")
    write(folder)
    before = [(folder / name).read_bytes() for name in names]
    for path in folder.glob("runs/*/*"):
        path.write_text(re.sub(r'"wall_seconds": [\d.]+', '"wall_seconds": 99.0', path.read_text()))
    write(folder)
    assert [(folder / name).read_bytes() for name in names] == before


def test_what_is_printed_is_the_outcome_and_the_table_of_accuracies(tmp_path: Path) -> None:
    folder = make_fleet(tmp_path, contestants=3, seeds=2, users=4, visits=10)
    (folder / "runs" / "cloned" / "1.jsonl").unlink()
    printed = write(folder)
    assert " ended best: " in printed[0]
    assert [line.split("|")[1].strip() for line in printed[4:7]] == list(read_study(folder).contestants)
    assert printed[-1] == "5 of 6 runs are complete; missing: cloned 1."
    assert printed[-1] in Page(folder / "report.html").text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    names = [EVIL, f"{EVIL}\ud800\x1b[31m"]
    entries: list[Entry] = [start([user(EVIL, EVIL), user("--ink")], contestant=name, scenario=EVIL) for name in names]
    rest = [visit(9, EVIL, "refused", reason=EVIL), visit(10, "--ink"), lesson(10, 1, 0.6, measures={EVIL: 1.0})]
    moved = {"kind": "left", "time": 11, "user": EVIL, "live": 1}
    folder = write_runs(tmp_path, {f"{n}/0": [first, *rest, moved, end(12, 0.6)] for n, first in enumerate(entries)})
    name = json.dumps(EVIL)
    (folder / "scenario.toml").write_text(f"[about]\nsummary = {name}\n[contestants.{name}]\n{name} = {name}\n")
    printed = "\n".join(write(folder))
    page = Page(folder / "report.html")
    assert page.text.count(EVIL) > 10
    assert len(page.scripts) == 3
    assert not {"img", "a"} & {tag for tag, _ in page.elements}
    assert not [name for _, name, _ in page.attributes() if name.startswith("on")]
    drawn = [trace for chart in page.charts.values() for trace in chart["data"]]
    words = [word for trace in drawn for word in (trace["name"], *trace.get("hovertext", []))]
    words += page.charts["visits-1"]["layout"]["yaxis"]["ticktext"]
    assert "<" not in "".join(words).replace("<br>", "")
    assert "\x1b" not in printed + (folder / "tables.md").read_text()
    assert "<img" not in (folder / "tables.md").read_text().replace("\\<img", "")


def words_of(folder: Path, ours: list[list[Entry]], theirs: list[list[Entry]]) -> str:
    """The headline about `ours`, by the rule of the house, and `theirs`, which is there to compare."""
    runs = {f"ours/{seed}": run for seed, run in enumerate(ours)} | {
        f"theirs/{seed}": r for seed, r in enumerate(theirs)
    }
    folder = write_runs(folder, runs)
    rules = {"ours": "distil", "theirs": "fedavg"}
    toml = "".join(f'[contestants.{name}.lesson]\nrule = "{rule}"\n' for name, rule in rules.items())
    (folder / "scenario.toml").write_text("seeds = 1\n" + toml)
    return headline(read_study(folder)).replace("\u202f", " ")


def run_of(contestant: str, *tests: float, seed: int = 0) -> list[Entry]:
    """A run whose core is right that often after each lesson, having begun with a half."""
    lines = [line for n, test in enumerate(tests, 1) for line in (visit(n * 60, "a"), lesson(n * 60, n, test))]
    first = start([user("a")], contestant=contestant, seed=seed)
    return [first, *lines, end(600, tests[-1] if tests else 0.5)]


def test_the_headline_says_who_ended_best_and_by_how_much(tmp_path: Path) -> None:
    said = words_of(tmp_path, [run_of("ours", 0.6, 0.75)], [run_of("theirs", 0.7)])
    assert said == (
        "\u201cours\u201d ended best: 75.0 % of test images right, one seed, 25.0 points above the core alone and "
        "5.0 points above \u201ctheirs\u201d, the best baseline. It never fell below the core it began with."
    )


def test_the_headline_says_when_a_baseline_ended_best(tmp_path: Path) -> None:
    said = words_of(tmp_path, [run_of("ours", 0.6)], [run_of("theirs", 0.45, 0.7)])
    assert "\u201ctheirs\u201d ended best" in said
    assert "10.0 points above \u201cours\u201d, the best that is no baseline" in said
    assert said.endswith("On the way it fell below the core it began with, by 5.0 points at most.")


def test_the_headline_counts_seeds(tmp_path: Path) -> None:
    ours = [run_of("ours", 0.7), run_of("ours", 0.4, 0.62, seed=1)]
    theirs = [run_of("theirs", 0.6), run_of("theirs", 0.64, seed=1)]
    said = words_of(tmp_path, ours, theirs)
    assert "mean of 2 seeds" in said
    assert "4.0 points above \u201ctheirs\u201d, the best baseline (ahead in 1 of 2 seeds)" in said
    assert "fell below the core it began with in 1 of 2 seeds, by 10.0 points at most" in said


def test_the_headline_names_the_next_one_where_it_is_no_rival(tmp_path: Path) -> None:
    runs = {"ours/0": run_of("ours", 0.7), "mine/0": run_of("mine", 0.68), "theirs/0": run_of("theirs", 0.6)}
    folder = write_runs(tmp_path, runs)
    (folder / "scenario.toml").write_text('contestants.theirs.lesson.rule = "fedavg"\n')
    said = headline(read_study(folder))
    assert (
        "10.0 points above \u201ctheirs\u201d, the best baseline; \u201cmine\u201d is next, 2.0 points behind." in said
    )


def test_nobody_better_than_the_core_is_said_so(tmp_path: Path) -> None:
    assert "level with the core alone." in words_of(tmp_path, [run_of("ours")], [run_of("theirs")][:0])
    assert "10.0 points below the core alone" in words_of(tmp_path, [run_of("ours", 0.4)], [])


def test_attackers_are_told_with_what_came_of_them(tmp_path: Path) -> None:
    people = [user("a"), user("b", "backdoor")]
    lines = [
        visit(1, "a"),
        visit(2, "b"),
        visit(3, "b", "refused"),
        visit(4, "b", "lost"),
        lesson(5, 1, 0.6, backdoor=0.25),
    ]
    study = read_study(write_runs(tmp_path, {"ours/0": [start(people), *lines, end(6, 0.6)]}))
    assert attack_sentence(study).replace("\u202f", " ") == (
        "\u201cours\u201d applied 1 of 2 returns of attackers (backdoor) and 1 of 1 of honest users. "
        "At the end the backdoor works on 25.0 % of stamped images."
    )
    assert missing_sentence(study) == "The only run is complete."


def test_a_run_in_which_nothing_happened_is_a_page(tmp_path: Path) -> None:
    quiet = [start([user("a")], recalls=[]), end(0, 0.5)]
    folder = write_runs(tmp_path, {"ours/0": quiet})
    write(folder)
    assert Page(folder / "report.html").sections == [
        "curves", "table-accuracy", "contestants", "table-cost", "table-fates",
    ]  # fmt: skip


def test_a_class_without_test_images_has_a_dash_in_the_map(tmp_path: Path) -> None:
    runs = {
        f"ours/{seed}": [start([user("a")], seed=seed, recalls=first), lesson(5, 1, 0.6, recalls=last), end(6, 0.6)]
        for seed, (first, last) in enumerate(
            [([0.4, None, None], [0.6, None, None]), ([0.4, None, 0.5], [0.6, None, 0.7])]
        )
    }
    folder = write_runs(tmp_path, runs)
    write(folder)
    source = Page(folder / "report.html").source
    cells = re.findall(r'<td style="--share: [\d.]+" title="[^"]+">([^<]+)', source)
    assert cells == ["40", "\u2013", "50", "60", "\u2013", "70"]
    assert json.loads((folder / "results.json").read_text())["runs"][0]["recalls"] == [0.6, None, None]


def test_a_truncated_run_beside_a_whole_one_is_told(tmp_path: Path) -> None:
    folder = write_runs(tmp_path, {"ours/0": run_of("ours", 0.6), "ours/1": run_of("ours", 0.7, seed=1)})
    path = folder / "runs" / "ours" / "1.jsonl"
    path.write_text(text(run_of("ours", 0.7, seed=1))[:-9])
    assert write(folder)[-1] == "1 of 2 runs are complete; missing: ours 1."
