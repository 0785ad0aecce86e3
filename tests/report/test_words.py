"""Charts, figures and sentences as functions of numbers."""

import base64
import io
import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillhouse.report.charts import Axes, Line, apart, line_chart, plain
from stillhouse.report.curves import NUM_POINTS, accuracy_by_block, losses
from stillhouse.report.facts import Step
from stillhouse.report.markup import Html, tag
from stillhouse.report.pictures import BUDGET, largest_side, png_uri
from stillhouse.report.read import read_run
from stillhouse.report.sections import body, recipe_name
from stillhouse.report.tables import quarantine_summary, results_table, settings_tables
from stillhouse.report.verdict import judgement
from stillhouse.report.wording import duration, percent, points
from tests.report.runs import evaluation, make_full_run, make_run, result


def judged(tmp_path: Path, *scores: dict[str, object]) -> str:
    return judgement(read_run(make_run(tmp_path, {"evaluation.json": json.dumps(evaluation(results=scores))})))


def test_an_encoder_within_the_noise_of_its_baseline_is_not_praised(tmp_path: Path) -> None:
    scores = [result("encoder", 1, 0.340), result("untrained", 1, 0.335), result("pixels", 0, 0.2)]
    assert "clearly above raw pixels, within the noise of an untrained encoder." in judged(tmp_path, *scores)


def test_an_encoder_below_both_baselines_is_said_to_be(tmp_path: Path) -> None:
    scores = [result("encoder", 1, 0.2), result("untrained", 1, 0.3), result("pixels", 0, 0.3)]
    assert ", clearly below raw pixels and an untrained encoder." in judged(tmp_path, *scores)


def test_a_last_layer_that_is_best_is_said_to_be(tmp_path: Path) -> None:
    assert "It is also the last layer" in judged(tmp_path, result("encoder", 1, 0.2), result("encoder", 2, 0.3))


def test_a_block_is_chosen_by_held_out_images_rather_than_by_the_test(tmp_path: Path) -> None:
    first, second, last = (result("encoder", block, accuracy) for block, accuracy in ((1, 0.4), (2, 0.5), (3, 0.45)))
    said = judged(tmp_path, first | {"held_out": 0.6}, second | {"held_out": 0.5}, last | {"held_out": None})
    assert "Block 1 of 3 is the best layer, with 40.0" in said
    assert "On these images the last layer is as good." in said


def test_fewer_and_wrong_labels_are_compared_in_one_chart_and_kept_apart(tmp_path: Path) -> None:
    told = {"": 0.6, "1% labels": 0.3, "noise 0.4": 0.5}
    scores = [
        result(subject, block, accuracy + block / 100, f"linear(lbfgs, {labels})" if labels else "linear(lbfgs)")
        | {"labels": labels}
        for labels, accuracy in told.items()
        for subject in ("encoder", "untrained")
        for block in (1, 2)
    ]
    found = read_run(make_run(tmp_path, {"evaluation.json": json.dumps(evaluation(results=scores))}))
    assert found.evaluation.protocols == ("linear(lbfgs)",)
    usual, compared = accuracy_by_block(found.evaluation)
    assert (usual.title, compared.title) == ("Linear accuracy", "Linear accuracy by labels")
    lines = [line for line in compared.chart["data"] if line.get("name")]
    assert {line["name"] for line in lines} == {"all labels", "1% labels", "noise 0.4"}
    content = body(found)[0]
    evaluated, apart = content.partition('<section id="labels">')[::2]
    assert "linear(lbfgs)" in evaluated
    assert "linear(lbfgs, 1% labels)" not in evaluated
    assert all(f"<caption>linear(lbfgs, {labels})" in apart for labels in list(told)[1:])
    assert 'id="labels"' not in body(read_run(make_full_run(tmp_path)))[0]


def test_joined_blocks_told_few_labels_do_not_stand_for_single_ones(tmp_path: Path) -> None:
    scores = [
        result("encoder", block, 0.4, f"{joined}linear(lbfgs, 1% labels)") | {"labels": "1% labels"}
        for joined, blocks in (("", (1, 2)), ("last2:", (2,)))
        for block in blocks
    ]
    usual = [result("encoder", block, 0.5, "linear(lbfgs)") for block in (1, 2)]
    found = read_run(make_run(tmp_path, {"evaluation.json": json.dumps(evaluation(results=[*usual, *scores]))}))
    compared = accuracy_by_block(found.evaluation)[-1]
    assert [line["name"] for line in compared.chart["data"] if line.get("name")] == ["all labels", "1% labels"]
    content = body(found)[0].partition('<section id="labels">')[2]
    assert "<caption>linear(lbfgs, 1% labels)" in content
    assert "<caption>last2:linear(lbfgs, 1% labels)" in content


def test_a_sum_is_called_by_the_names_of_its_methods(tmp_path: Path) -> None:
    recipe = '[method]\nname = "sum"\nmethods = ["simclr", "seed"]\n[method.seed]\nqueue_size = 7\n'
    found = read_run(make_run(tmp_path, {"recipe.toml": recipe}))
    assert recipe_name(found) == "simclr + seed"
    assert "method.seed" in body(found)[0]


@pytest.mark.parametrize(("last", "said"), [(0.499, "0.1 points behind, within the noise."), (0.4, "worth its while.")])
def test_an_early_exit_is_advised_only_beyond_the_noise(tmp_path: Path, last: float, said: str) -> None:
    assert judged(tmp_path, result("encoder", 1, 0.5), result("encoder", 2, last)).endswith(said)


def test_settings_that_all_results_share_are_said_once(tmp_path: Path) -> None:
    scores = [result("encoder", block, 0.4, "linear(lbfgs)", l2=block / 8, folds=5) for block in (1, 2)]
    run = make_run(tmp_path, {"evaluation.json": json.dumps(evaluation(results=scores))})
    table = results_table(read_run(run).evaluation, "linear(lbfgs)")
    assert table.count("folds 5") == 1
    assert table.count("<small>l2 0.125</small>") == table.count("<small>l2 0.25</small>") == 1


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(0.41234), "41.2 %"),
        (percent(math.nan), "not finite"),
        (points(0.0934), "+9.3"),
        (points(-0.0934), "\u22129.3"),
        (points(-0.0001), "+0.0"),
        (duration(59.4), "59 s"),
        (duration(59.6), "1 min"),
        (duration(3599), "1 h 00 min"),
        (duration(3 * 3600 + 65), "3 h 01 min"),
    ],
)
def test_numbers_in_words(written: str, expected: str) -> None:
    assert written.replace("\u202f", " ") == expected


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.5], [0.99, 1.0, 0.98], [0.0, 0.0, 0.01], [0.1, 0.9], [0.3]])
def test_names_are_moved_apart_in_order_and_inside(heights: list[float]) -> None:
    placed = apart(heights, 0.1)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    assert all(placed[above] - placed[below] >= 0.1 - 1e-9 for below, above in pairwise(order))
    assert min(placed) >= 0
    assert max(placed) <= 1


def test_names_with_room_stay_at_the_end_of_their_line() -> None:
    lines = [
        Line(name="a", x=[1, 2], y=[0.0, 4.0], color="--ink"),
        Line(name="b", x=[1, 2], y=[10.0, 6.0], color="--ink"),
    ]
    first, second = line_chart(lines, Axes(x_title="step", y_span=(0.0, 10.0)))["layout"]["annotations"]
    assert (first["y"], second["y"]) == pytest.approx((0.4, 0.6))


def test_a_wide_range_of_positive_losses_is_logarithmic() -> None:
    axes = Axes(x_title="step", may_be_logarithmic=True)
    kinds = [
        line_chart([Line(name="a", x=[1, 2], y=values, color="--ink")], axes)["layout"]["yaxis"]["type"]
        for values in ([1000.0, 1.0], [3.0, 1.0], [1000.0, -1.0], [1000.0, 0.0])
    ]
    assert kinds == ["log", "linear", "linear", "linear"]


def test_a_long_log_is_thinned_and_keeps_its_ends() -> None:
    steps = [Step(step=number, loss=1.0, terms={"a": 1.0}, learning_rate=0.1) for number in range(7, 4321)]
    drawn = losses(steps)[0].chart["data"][0]["x"]
    assert len(drawn) <= NUM_POINTS + 1
    assert (drawn[0], drawn[-1]) == (7, 4320)


def test_a_single_term_is_not_drawn_twice_and_many_are_cut_to_the_largest() -> None:
    one = losses([Step(step=1, loss=1.0, terms={"contrast": 1.0})])[0]
    many = losses([Step(step=1, loss=1.0, terms={f"t{size}": float(size) for size in range(20)})])[0]
    assert [trace["name"] for trace in one.chart["data"]] == ["contrast"]
    assert [trace["name"] for trace in many.chart["data"]] == ["sum", *(f"t{size}" for size in range(12, 20))]
    assert "the 8 largest of 20" in many.caption


def test_text_is_escaped_unless_it_is_html_already() -> None:
    assert tag("p", "<b>", Html("<i>"), class_='"x') == '<p class="&quot;x">&lt;b&gt;<i></p>'
    assert plain("<a href='x'>&" + "y" * 99) == "&lt;a href='x'&gt;&amp;" + "y" * 46 + "\u2026"


def test_pictures_keep_small_images_to_the_bit_and_shrink_large_ones() -> None:
    def opened(uri: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))

    small = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert (opened(png_uri(small, 64)) == small).all()
    assert opened(png_uri(np.zeros((400, 200, 3), np.uint8), 64)).shape == (64, 32, 3)
    assert all(3 * count * largest_side(count) ** 2 <= BUDGET for count in (1, 24, 104))


def test_quarantine_counts_reasons_and_names_the_first() -> None:
    lines = (
        [f"{number}.jpg\ttruncated" for number in range(30)]
        + ["x.jpg\treason " + "abcdefg"[i] for i in range(7)]
        + ["y.jpg"]
    )
    said = quarantine_summary(lines)
    assert "38 images were left out." in said
    assert "<b>30</b> truncated" in said
    assert "<b>3</b> for other reasons" in said
    assert "<li>19.jpg</li>" in said
    assert "<li>20.jpg</li>" not in said


def test_settings_are_nested_by_dotted_names_and_numbered_in_lists() -> None:
    tree = {"seed": 1, "method": {"views": [{"count": 2}, {"count": 6, "crop": {"scale": [0.2, 1.0]}}], "empty": []}}
    headings = re.findall("<h3>(.*?)</h3>", "".join(settings_tables(tree, "run")))
    assert headings == ["run", "method", "method.views[0]", "method.views[1]", "method.views[1].crop"]
