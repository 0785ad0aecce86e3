"""What the full suite measures beside accuracies."""

import json
import math

import pytest
import torch

from stillhouse.config import build
from stillhouse.errors import SettingsError
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.features import extract
from stillhouse.evaluation.judge import evaluate
from stillhouse.evaluation.likeness import layer_likeness
from stillhouse.evaluation.protocols import PROTOCOLS
from stillhouse.evaluation.retrieval import retrieve
from stillhouse.evaluation.spectrum import rankme
from stillhouse.evaluation.suites import SUITES, settings_of
from tests.evaluation.made_up import make_encoder, make_store

ALL = EvaluationConfig(k=5, alignment_images=0, linear=False, protocols=tuple(PROTOCOLS))


def test_all_protocols_are_in_the_file_with_their_versions() -> None:
    train, test = make_store([0, 1, 2] * 20, seed=1), make_store([0, 1, 2] * 10, seed=2)
    judged = evaluate(make_encoder(), train, test, config=ALL)
    found = json.loads(judged.to_json())["protocols"]
    assert set(found) == set(PROTOCOLS)
    assert all(values["version"] == PROTOCOLS[name].version for name, values in found.items())
    features = extract(make_encoder(), test)
    assert found["spectrum"]["rankme"] == pytest.approx([rankme(block) for block in features.blocks])
    assert math.isnan(judged.protocols["spectrum"]["alpha"][0])
    assert found["spectrum"]["alpha"][0] is None  # 30 images do not have enough directions
    assert 1 <= found["spectrum"]["lidar"] <= 12
    torch.testing.assert_close(torch.tensor(found["cka"]["blocks"]), layer_likeness(features.blocks).float())
    last = next(each for each in found["retrieval"]["blocks"] if each["block"] == 2)
    assert last["mean_average_precision"] == retrieve(features.blocks[1], features.labels).mean_average_precision


def test_confusion_counts_what_knn_of_the_chosen_block_says() -> None:
    train, test = make_store([0, 1, 2] * 20, seed=1), make_store([0, 1, 2] * 10, seed=2)
    judged = evaluate(make_encoder(), train, test, config=ALL)
    values, best = judged.protocols["confusion"], judged.best()
    assert best is not None
    assert values["block"] == best.block
    assert [sum(row) for row in values["counts"]] == [10, 10, 10]
    assert sum(values["counts"][name][name] for name in range(3)) == round(30 * best.accuracy)


def test_without_labels_only_what_needs_none() -> None:
    blind = make_store([-1] * 30, classes=())
    assert set(evaluate(make_encoder(), blind, blind, config=ALL).protocols) == {"spectrum", "cka"}


def test_suites_are_settings_that_exist() -> None:
    for name in SUITES:
        table = {key.removeprefix("evaluation."): value for key, value in settings_of(name).items()}
        assert build(EvaluationConfig, table, "evaluation.")
    with pytest.raises(SettingsError, match="no such suite; choose quick or full"):
        settings_of("fast")
