"""The whole evaluation: what is judged, what is refused, what goes into the file."""

import json
import math

import pytest
import torch
from torch import nn

from stillhouse.errors import DataError
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.features import extract
from stillhouse.evaluation.intervals import wilson
from stillhouse.evaluation.judge import evaluate
from stillhouse.evaluation.knn import classify
from stillhouse.evaluation.results import Evaluation, Sources
from stillhouse.evaluation.task import find_task
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.classifier import Classifier
from tests.evaluation.made_up import make_encoder, make_store

SMALL = EvaluationConfig(k=5, alignment_images=6, batch_size=16)


@pytest.fixture
def judged() -> Evaluation:
    train, test = make_store([0, 1, 2] * 20, seed=1), make_store([0, 1, 2] * 10, seed=2)
    names = Sources(train="a", test="b", encoder="two")
    return evaluate(make_encoder(), train, test, untrained=make_encoder(seed=1), config=SMALL, sources=names)


def test_every_subject_block_and_protocol_is_there(judged: Evaluation) -> None:
    found = {(result.subject, result.block, result.protocol) for result in judged.results}
    places = [("encoder", 1), ("encoder", 2), ("untrained", 1), ("untrained", 2), ("pixels", 0)]
    assert found == {(*place, name) for place in places for name in ("knn(k=5,T=0.07)", "linear(lbfgs)")}
    assert len(judged.results) == len(found)
    assert len(judged.health) == len(judged.alignment) == 2
    assert all(result.accuracy > 0.8 for result in judged.of("pixels", "linear"))


def test_accuracy_is_that_of_the_parts(judged: Evaluation) -> None:
    train, test = make_store([0, 1, 2] * 20, seed=1), make_store([0, 1, 2] * 10, seed=2)
    bank, queries = extract(make_encoder(), train), extract(make_encoder(), test)
    answers = classify(queries.blocks[1], bank.blocks[1], bank.labels, k=5, temperature=0.07)
    right = int((answers == queries.labels).sum())
    result = judged.of("encoder", "knn")[1]
    assert result.accuracy == right / 30
    assert result.interval == wilson(right, 30)


def test_the_last_blocks_are_judged_joined() -> None:
    train, test = make_store([0, 1, 2] * 20, seed=1), make_store([0, 1, 2] * 10, seed=2)
    config = EvaluationConfig(k=5, alignment_images=0, linear_protocol="ridge", last_blocks=4)
    found = evaluate(make_encoder(), train, test, config=config)
    bank, queries = (torch.cat(extract(make_encoder(), store).blocks, dim=1) for store in (train, test))
    answers = classify(queries, bank, train.labels, k=5, temperature=0.07)
    (joined,) = found.of("encoder", "last2:knn(k=5,T=0.07)")
    assert joined.accuracy == (answers == test.labels).double().mean().item()
    assert joined.block == 2
    assert len(found.of("encoder", "last2:linear(ridge)")) == 1
    assert len(found.of("encoder", "knn")) == len(found.of("encoder", "linear")) == 2
    assert not found.of("pixels", "last")


def test_a_classifier_is_asked_by_the_names_of_its_classes() -> None:
    train, test = make_store([0, 1, 2] * 20, seed=1), make_store([0, 1, 2] * 10, seed=2)
    encoder = make_encoder()
    torch.manual_seed(3)
    classifier = Classifier(encoder, nn.Sequential(), ("blue", "mauve", "red"), zero_output=False).eval()
    found = evaluate(encoder, train, test, classifier=classifier, config=SMALL)
    (result,) = found.of("encoder", "classifier")
    answers = classifier.score(extract(encoder, test).blocks[-1]).argmax(1)
    right = int((answers == torch.tensor([{0: 2, 2: 0}.get(label, 9) for label in test.labels.tolist()])).sum())
    assert 0 < right < 20
    assert (result.block, result.accuracy, result.interval) == (2, right / 30, wilson(right, 30))
    assert found.best("classifier") == result
    assert len(found.of("encoder", "knn")) == 2


def test_best_block_is_chosen_by_training_images(judged: Evaluation) -> None:
    best = judged.best("linear")
    assert best is not None
    assert best.held_out == max(result.held_out for result in judged.of("encoder", "linear"))


def test_file_has_the_agreed_form(judged: Evaluation) -> None:
    document = json.loads(judged.to_json())
    assert document["version"] == 1
    assert document["data"] == {
        "train": "a", "test": "b", "train_images": 60, "test_images": 30, "classes": ["red", "green", "blue"],
    }  # fmt: skip
    assert document["encoder"] == {"name": "two", "blocks": 2, "block_dims": [8, 12], "weights_sha256": ""}
    first = document["results"][0]
    assert {"subject", "block", "protocol", "accuracy", "interval", "settings"} <= first.keys()
    assert first["interval"][0] <= first["accuracy"] <= first["interval"][1]
    assert "l2" in document["results"][1]["settings"]
    assert document["alignment"]["images"] == 6
    assert {"block", "positive", "negative", "ratio"} <= document["alignment"]["blocks"][1].keys()
    assert document["health"][0]["sentence"]
    assert document["seconds"] > 0


def test_without_labels_there_is_no_accuracy() -> None:
    blind = make_store([-1] * 12, classes=())
    for train, test in ((blind, blind), (make_store([0, 1, 2]), blind), (blind, make_store([0, 1, 2]))):
        found = evaluate(make_encoder(), train, test, config=SMALL)
        assert not found.results
        assert not found.classes
        assert found.best() is None
        assert len(found.health) == len(found.alignment) == 2
        assert "no labels" in found.notes[0]
        assert "accuracy" not in json.dumps(json.loads(found.to_json())["results"])


def test_one_class_says_nothing() -> None:
    found = evaluate(make_encoder(), make_store([1] * 8), make_store([1] * 4), config=SMALL)
    assert found.results == ()
    assert "one class" in found.notes[0]


def test_only_labelled_images_count() -> None:
    found = evaluate(make_encoder(), make_store([0, -1, 2] * 9), make_store([2, -1, 0, -1]), config=SMALL)
    assert (found.train_images, found.test_images) == (18, 2)
    assert found.classes == ("red", "blue")


def test_labels_are_matched_by_name() -> None:
    train = make_store([0, 1, 2, 2], classes=("ant", "bee", "cat"))
    task = find_task(train, make_store([0, 1, -1], classes=("bee", "cat")))
    assert task.test_labels.tolist() == [1, 2]
    assert task.classes == ("ant", "bee", "cat")


def test_a_class_that_was_never_seen_is_refused() -> None:
    train = make_store([0, 0, 1], classes=("ant", "bee", "cat"))
    for classes in (("ant", "bee", "cat"), ("ant", "bee", "dog")):
        with pytest.raises(DataError, match=rf"test labels: 1 classes have no training image \({classes[2]}\); name a"):
            evaluate(make_encoder(), train, make_store([0, 1, 2], classes=classes), config=SMALL)


def test_one_store_for_both_is_split() -> None:
    store = make_store([0, 1] * 20)
    task = find_task(store, store, seed=3)
    assert len(task.test_rows) == 8
    assert torch.bincount(task.test_labels).tolist() == [4, 4]
    assert not set(task.test_rows.tolist()) & set(task.train_rows.tolist())
    assert torch.equal(task.test_rows, find_task(store, store, seed=3).test_rows)


def test_an_edge_of_the_grid_is_mentioned() -> None:
    config = EvaluationConfig(k=5, alignment_images=0, pixels=True, linear_protocol="ridge")
    found = evaluate(make_encoder(), make_store([0, 1, 2] * 20), make_store([0, 1, 2]), config=config)
    edges = [result for result in found.results if result.settings.get("at_edge")]
    assert bool(edges) == any("edge of its grid" in note for note in found.notes)
    assert found.alignment == ()
    assert found.alignment_images == 0


def test_progress_rises_to_one() -> None:
    told: list[tuple[str, float]] = []
    train, test = make_store([0, 1, 2] * 9), make_store([0, 1, 2])
    evaluate(make_encoder(), train, test, config=SMALL, progress=lambda text, share: told.append((text, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert any("block 2 of 2" in text for text, _ in told)


def test_a_real_transformer_is_judged_and_left_alone() -> None:
    encoder = build_encoder(EncoderConfig(name="vit_nano", image_size=16, patch_size=4)).train()
    before = torch.get_rng_state()
    train, test = make_store([0, 1, 2] * 10, size=16), make_store([0, 1, 2] * 3, size=16, seed=5)
    found = evaluate(encoder, train, test, config=EvaluationConfig(k=3, alignment_images=5))
    assert encoder.training
    assert torch.equal(torch.get_rng_state(), before)
    assert found.block_dims == encoder.block_dims
    assert not math.isnan(found.results[0].held_out)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)]
)
def test_wilson_interval(right: int, count: int, low: float, high: float) -> None:
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_a_classifier_of_other_names_is_not_asked_and_that_is_said() -> None:
    train, test = make_store([0, 1, 2] * 20, seed=1), make_store([0, 1, 2] * 10, seed=2)
    encoder = make_encoder()
    classifier = Classifier(encoder, nn.Sequential(), ("0", "1"), zero_output=False).eval()
    found = evaluate(encoder, train, test, classifier=classifier, config=SMALL)
    assert not found.of("encoder", "classifier")
    assert any("knows none of these classes by name" in note for note in found.notes)
