"""What the page shows beyond accuracies: map, neighbours, confusion, exits, likeness, corruptions, verdict, lineage."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from stillhouse.errors import RunError
from stillhouse.report import write_report
from tests.report.runs import RECIPE, atlas, evaluation, make_full_run, make_run, protocols, save_atlas
from tests.report.test_page import EVIL, Page, page_of

LABELS = {"train": "a", "test": "b", "classes": ["cat", "dog"]}


def evaluated(folder: Path, **changes: Any) -> Path:
    return make_run(folder, {"recipe.toml": RECIPE, "evaluation.json": json.dumps(evaluation(**changes))})


def plain(page: Page) -> str:
    return page.text.replace("\u202f", " ")


@pytest.fixture
def mapped(tmp_path: Path) -> Path:
    run = make_full_run(tmp_path)
    save_atlas(run, atlas())
    return run


def test_the_map_holds_every_image_once_at_every_depth(mapped: Path) -> None:
    page = page_of(mapped)
    assert page.sections[:2] == ["map", "near"]
    traces = page.charts["map-0"]["data"]
    assert [trace["name"] for trace in traces] == ["class 0", "class 1", "class 2"]
    assert sorted(image for trace in traces for image in trace["customdata"]) == list(range(12))
    told = json.loads(page.scripts[1])
    assert told["blocks"] == [2, 3]
    shown = {image: (x, y) for t in traces for image, x, y in zip(t["customdata"], t["x"], t["y"], strict=True)}
    for image, place in shown.items():
        assert place == pytest.approx([each / 1000 for each in told["points"][0][2 * image : 2 * image + 2]], abs=2e-3)
    assert np.abs(told["points"]).max() == 1000


def test_neighbours_are_marked_right_or_wrong_by_their_classes(mapped: Path) -> None:
    page = page_of(mapped)
    fates = [found.get("class", "") for tag, found in page.elements if tag == "figure"]
    assert [fate for fate in fates if fate] == ["query", "same", "other", "query", "other", "same"]
    assert "50.0 % of these are of the same class" in plain(page)


@pytest.mark.parametrize("hidden", [True, False])
def test_without_real_labels_the_map_shows_none(tmp_path: Path, hidden: bool) -> None:
    data = LABELS if hidden else {"train": "a", "test": "b", "classes": []}
    recipe = RECIPE.replace("labels = true", "labels = false") if hidden else RECIPE
    files = {"recipe.toml": recipe, "evaluation.json": json.dumps(evaluation(data=data, results=[]))}
    run = make_run(tmp_path, files)
    save_atlas(run, atlas())
    page = page_of(run)
    assert "class 1" not in page.source
    assert [trace["name"] for trace in page.charts["map-0"]["data"]][-1] == "most crowded sixth"
    assert "how crowded" in page.text


def test_many_classes_are_chosen_from_a_list(mapped: Path) -> None:
    save_atlas(mapped, atlas(count=120, classes=100))
    page = page_of(mapped)
    assert sum(tag == "option" for tag, _ in page.elements) == 101
    looks = {(t["marker"]["color"], t["marker"]["symbol"]) for t in page.charts["map-0"]["data"]}
    assert len(looks) == 100


def test_small_images_are_inside_and_no_request_is_allowed(mapped: Path) -> None:
    page = page_of(mapped)
    assert re.findall(r"url\((.{15})", page.styles) == ["data:image/webp"]
    policy = next(attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes)
    assert "default-src 'none'; img-src data:" in policy
    assert len(re.findall("'sha256-", policy)) == 3
    assert not re.search(r"\bimport\b|fetch\(|https?:", page.scripts[-1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sheet", np.zeros(40, np.uint8)),
        ("labels", np.full(12, 3)),
        ("neighbours", np.full((2, 2), 12)),
        ("points", np.full((2, 12, 2), np.nan)),
        ("shapes", np.zeros((12, 2), int)),
        ("ids", np.array([{}], dtype=object)),
    ],
)
def test_a_damaged_atlas_is_named(mapped: Path, name: str, value: np.ndarray) -> None:
    save_atlas(mapped, atlas() | {name: value})
    with pytest.raises(RunError, match=r"atlas\.npz: cannot be read \(.*\); evaluate again, or delete it"):
        write_report(mapped)


def test_every_measurement_has_a_valid_chart(tmp_path: Path) -> None:
    page = page_of(evaluated(tmp_path, protocols=protocols()))
    assert page.sections[:4] == ["blocks", "errors", "exits", "inside"]
    for name in ("errors-0", "errors-1", "exits-0", "inside-0", "inside-1"):
        drawn = re.sub(r'"--[\w-]+( \w\w)?"', '"red"', json.dumps(page.charts[name]))
        go.Figure(json.loads(drawn))
    assert page.charts["errors-0"]["data"][0]["z"] == [[0.9, 0.1], [0.2, 0.8]]
    assert page.charts["errors-0"]["data"][0]["text"][1][0] == "dog taken for cat: 20 of 100"
    assert page.charts["exits-0"]["data"][0]["x"] == [0.5, 1.0, 1.5]
    words = plain(page)
    assert "Most often: dog for cat (20.0 %), cat for dog (10.0 %)" in words
    assert "37.5 % over all, 58.7 % on clean ones" in words
    assert "RankMe42.1" in words


def test_measurements_need_labels_where_they_tell_accuracy(tmp_path: Path) -> None:
    page = page_of(evaluated(tmp_path, protocols=protocols(), data={"classes": []}, results=[]))
    assert page.sections[:2] == ["inside", "alignment"]
    assert not {"errors", "exits", "further"} & set(page.sections)


def test_what_has_no_chart_is_told_as_it_was_written(tmp_path: Path) -> None:
    odd = {"confusion": {"classes": ["a"], "counts": [[1, 2]]}, "retrieval": {"map": 0.125}, "cka": 3}
    page = page_of(evaluated(tmp_path, protocols=odd))
    assert "errors" not in page.sections
    assert "further" in page.sections
    assert "map0.125" in page.text


def test_the_verdict_leads(tmp_path: Path) -> None:
    verdict = {"level": "weak", "score": 0.4, "because": ["raw pixels do as well", EVIL], "advice": "try more images"}
    page = page_of(evaluated(tmp_path, verdict=verdict))
    assert page.text.index("Weak") < page.text.index("Raw pixels do as well.") < page.text.index("Try more images.")
    assert EVIL[:40] in page.text
    assert len(page.scripts) == 3


def test_lineage_names_teachers_start_and_other_weights(tmp_path: Path) -> None:
    run = make_full_run(tmp_path)
    card: dict[str, Any] = {
        "sha256": "ab" * 32,
        "labels": "without",
        "teacher": {"source": "timm:vit_small", "license": "apache-2.0"},
    }
    card |= {"more_teachers": [{"source": "runs/b"}], "start": {"source": "runs/a", "sha256": "cd" * 32}}
    (run / "encoder/card.json").write_text(json.dumps(card))
    judged = {"name": "vit_micro", "weights_sha256": "ef" * 32}
    (run / "evaluation.json").write_text(json.dumps(evaluation(encoder=judged)))
    words = page_of(run).text
    for told in ("timm:vit_smalllicence apache-2.0", "runs/b", "runs/aSHA-256 cdcdcdcdcdcdcdcd", "no labels were used"):
        assert told in words
    assert "other weights than those of the run by now" in words
