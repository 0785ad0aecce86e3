"""The words about an encoder follow from plain tables."""

import json
import math
from typing import Any

import pytest

from stillhouse.export.card import of_encoder, origin, public_name, readme, scores

CARD: dict[str, Any] = {
    "encoder": {"name": "vit_nano", "image_size": 32},
    "block_dims": [64, 64],
    "method": "simreg",
    "labels": "without",
    "data": "hf:uoft-cs/cifar10#train",
    "steps": 9,
    "sha256": "abc",
    "teacher": {"source": "/home/me/runs/big", "sha256": "def", "license": ""},
    "more_teachers": [{"source": "timm:resnet50", "sha256": "aaa", "license": "apache-2.0"}],
    "start": {"source": "/home/me/runs/first", "sha256": "bbb"},
}
RESULT = {"protocol": "knn(k=20,T=0.07)", "accuracy": 0.5, "interval": [0.4, 0.6], "labels": ""}
EVALUATION = {
    "data": {"test": "photos/test/"},
    "results": [
        {**RESULT, "subject": "encoder", "block": 1},
        {**RESULT, "subject": "encoder", "block": 2, "accuracy": 0.75},
        {**RESULT, "subject": "pixels", "block": 0},
    ],
}


def header(text: str) -> dict[str, Any]:
    """The YAML at the top, whose values are JSON."""
    lines = text.split("---\n")[1].splitlines()
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}


def test_the_card_of_our_own_form() -> None:
    text = readme(of_encoder(CARD, EVALUATION, "c0ffee", "runs/a"))
    assert header(text) == {
        "license": "unknown",
        "library_name": "stillhouse",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["image-feature-extraction", "self-supervised-learning", "stillhouse", "simreg"],
        "datasets": ["uoft-cs/cifar10"],
    }
    assert "# vit_nano, trained without labels by simreg" in text
    assert 'model = stillhouse.load("runs/a")' in text
    assert "teacher: big, licence unknown" in text
    assert "teacher: timm:resnet50, licence apache-2.0" in text
    assert "began from: first" in text
    assert "settings_sha256: `c0ffee`" in text
    assert "on test." not in text
    assert "on photos/test." in text
    assert "| 2 | knn(k=20,T=0.07) | all labels | 75.00 (40.00 to 60.00) |" in text
    assert "| 0 |" not in text
    assert "/home" not in text


def test_a_card_without_scores_claims_none() -> None:
    text = readme(of_encoder({**CARD, "data": "", "labels": ""}, {}, "", "runs/a"))
    assert "Scores" not in text
    assert "datasets" not in header(text)
    assert "trained by simreg" in text
    assert "data: unknown" in text


def test_the_verdict_is_of_the_last_depth() -> None:
    judged = {**EVALUATION, "verdict": {"sentence": "weak, because it is small"}}
    assert "Without labels: weak, because it is small.\n\n| depth" in readme(of_encoder(CARD, judged, "", "runs/a"))
    assert "Without labels: weak" in readme(of_encoder(CARD, {"verdict": judged["verdict"]}, "", "runs/a"))
    assert origin(CARD, judged, "", [1])["verdict"] == ""


def test_scores_are_of_the_exits_alone() -> None:
    assert [score["depth"] for score in scores(EVALUATION, [2])] == [2]
    assert origin(CARD, EVALUATION, "", [1])["scores"][0]["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("/home/me/photos", "photos"),
        ("/home/me/cifar10/train.parquet", "cifar10/train.parquet"),
        ("photos/test/#val", "photos/test#val"),
        ("hf:owner/name#train", "hf:owner/name#train"),
        ("timm:vit_tiny_patch16_224.augreg_in21k", "timm:vit_tiny_patch16_224.augreg_in21k"),
        ("digits", "digits"),
        ("/a:b/c", "c"),
        ("", ""),
    ],
)
def test_names_tell_no_folder_of_the_machine(uri: str, told: str) -> None:
    assert public_name(uri) == told


def test_a_number_that_is_none_is_refused() -> None:
    from stillhouse.export.card import as_json

    with pytest.raises(ValueError, match="JSON"):
        as_json({"accuracy": math.nan})
