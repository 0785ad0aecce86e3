"""Classifiers: what they are made of, what is written of them, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import stillhouse
from stillhouse.errors import RunError
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.classifier import Classifier, load_classifier, save_classifier
from stillhouse.networks.heads import first_layers, layer_widths, mlp, scaled_mlp
from stillhouse.networks.saved import save_encoder
from stillhouse.networks.teacher import FrozenTeacher

CONFIG = EncoderConfig(name="vit_nano", image_size=16, patch_size=4)
IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def make(seed: int = 0, layers: int = 1) -> Classifier:
    encoder = build_encoder(CONFIG, seed)
    head = first_layers(mlp([encoder.dim, 24, 20, 8], output_norm=True), layers)
    return Classifier(encoder, head, ("cat", "dog", "owl"), zero_output=False)


def write(folder: Path, classifier: Classifier) -> None:
    save_encoder(folder / "encoder", classifier.encoder, CONFIG, {})
    save_classifier(folder, classifier, {"steps": 7})


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_what_is_written_comes_back_and_the_encoder_is_written_once(layers: int, tmp_path: Path) -> None:
    classifier = make(layers=layers)
    classifier(IMAGES)  # running statistics move
    write(tmp_path, classifier.eval())
    loaded = stillhouse.load_classifier(tmp_path)
    assert loaded.classes == ("cat", "dog", "owl")
    assert torch.equal(loaded(IMAGES), classifier(IMAGES))
    assert torch.equal(loaded.score(loaded.encoder(IMAGES)), loaded(IMAGES))
    assert not loaded.training
    names = load_file(tmp_path / "classifier" / "model.safetensors")
    assert {name.partition(".")[0] for name in names} == ({"head", "output"} if layers else {"output"})
    card = json.loads((tmp_path / "classifier/card.json").read_text())
    assert (card["steps"], card["head_widths"]) == (7, [24, 20][:layers])


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no classifier in it"):
        load_classifier(tmp_path)
    write(tmp_path, make())
    save_encoder(tmp_path / "encoder", make(seed=1).encoder, CONFIG, {})
    with pytest.raises(RunError, match=r"the encoder beside it is another one; resume"):
        load_classifier(tmp_path)
    write(tmp_path, make())
    weights = tmp_path / "classifier" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"else")
    with pytest.raises(RunError, match=r"is not the file that card\.json was written for"):
        load_classifier(tmp_path)


def test_kept_layers_are_those_of_the_head() -> None:
    head = mlp([16, 24, 20, 8], output_norm=True).eval()
    rows, states = torch.randn(6, 16), []
    value = rows
    for layer in head:
        value = layer(value)
        states += [value.clone()] if isinstance(layer, nn.ReLU) else []
    for count, state in enumerate([rows, *states]):
        kept = first_layers(head, count)
        torch.testing.assert_close(kept(rows), state)
        assert layer_widths(kept) == [24, 20][:count]
    first_layers(head, 1)[0].weight.data.zero_()  # type: ignore[operator]
    assert head[0].weight.any()  # type: ignore[operator]


def test_the_published_projector() -> None:
    head = scaled_mlp([2048, 2048, 2048, 128])
    assert sum(p.numel() for p in head.parameters() if p.requires_grad) == 8_659_072
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert [layer.weight.std().item() for layer in head if isinstance(layer, nn.Linear)] == pytest.approx(
        [0.01] * 3, rel=0.02
    )
    last = head[-1]
    assert isinstance(last, nn.BatchNorm1d)
    assert last.weight.requires_grad
    assert not last.bias.requires_grad
    assert not last.bias.any()


def test_a_teacher_with_this_classifier_gives_its_scores() -> None:
    classifier = make().eval()
    teacher = FrozenTeacher(classifier.encoder, classifier=classifier.scorer, classes=classifier.classes)
    scores = teacher.train().classify(teacher(IMAGES))
    assert scores.shape == (5, teacher.num_classes) == (5, len(teacher.classes)) == (5, 3)
    assert not scores.requires_grad
    torch.testing.assert_close(scores, classifier(IMAGES))
    assert not list(teacher.parameters())
