"""Teachers from anywhere, frozen; and what is said when one does not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from stillhouse.errors import RunError, SettingsError
from stillhouse.methods.simreg import SimReg, SimRegConfig
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.foreign import TeacherConfig, open_teacher
from stillhouse.networks.foreign_classifier import linear_classifier
from stillhouse.networks.saved import save_encoder
from stillhouse.networks.several_teachers import TeachersConfig, open_teachers
from stillhouse.networks.teacher import FrozenTeacher
from tests.methods.conftest import random_batch
from tests.teachers import save_teacher

SMALL = "resnet10t"


def opened(**settings: Any) -> Any:
    return open_teacher(TeacherConfig(**settings))


def state_of(teacher: FrozenTeacher) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in teacher.encoder.state_dict().items()}


def test_our_own_run_by_its_folder_with_its_licence_and_digest(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "run", license="apache-2.0")
    found = opened(source=str(folder), require_license="permissive")
    assert (found.config.license, found.config.image_size) == ("apache-2.0", 16)
    assert opened(source=str(folder / "encoder")).config.digest == found.config.digest
    torch.testing.assert_close(
        found.encoder(torch.ones(1, 3, 16, 16)),
        build_encoder(EncoderConfig(name="resnet10", image_size=16), 5).eval()(torch.ones(1, 3, 16, 16)),
    )
    with pytest.raises(SettingsError, match="changed since this run began"):
        opened(source=str(folder), digest="0" * 64)


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pt", "wrapped.pth"])
def test_timm_weights_from_a_file_with_or_without_a_classifier(file: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model: Any = timm.create_model(SMALL, num_classes=3).eval()
    weights, path = model.state_dict(), tmp_path / file
    if file.endswith("safetensors"):
        save_file(weights, path, {"license": "mit"})
    else:
        torch.save({"state_dict": weights, "epoch": 3} if file.startswith("wrapped") else weights, path)
    found = opened(source=f"timm:{SMALL}", weights=str(path), image_size=64)
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = model.forward_head(model.forward_features((images - mean) / std), pre_logits=True)
    torch.testing.assert_close(found.encoder(images), expected)
    assert found.config.license == ("mit" if file.endswith("safetensors") else "")
    teacher = found.frozen()
    assert teacher.num_classes == 3
    torch.testing.assert_close(teacher.classify(teacher(images)), model((images - mean) / std))


def test_published_weights_of_timm_with_their_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = timm.create_model

    def create(name: str, pretrained: bool = False, **arguments: Any) -> Any:
        torch.manual_seed(7 if pretrained else 1)
        return plain(name, **arguments)

    monkeypatch.setattr(timm, "create_model", create)
    model = create(SMALL, pretrained=True).eval()
    teacher, images = opened(source=f"timm:{SMALL}", image_size=64).frozen(), torch.rand(1, 3, 64, 64)
    assert teacher.num_classes == 1000
    expected = model(teacher.encoder.normalize(images))
    torch.testing.assert_close(teacher.classify(teacher(images)), expected)


def test_published_weights_of_torchvision_with_their_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = models.get_model
    asked: list[str] = []

    def create(name: str, weights: str) -> Any:
        asked.append(weights)
        torch.manual_seed(1)
        return plain(name)

    monkeypatch.setattr(models, "get_model", create)
    model, images = create("resnet18", "").eval(), torch.rand(1, 3, 64, 64)
    teacher = opened(source="torchvision:resnet18", image_size=64).frozen()
    torch.testing.assert_close(teacher.classify(teacher(images)), model(teacher.encoder.normalize(images)))
    assert opened(source="torchvision:mobilenet_v3_small", image_size=64).classifier is None  # two layers
    assert asked[1:] == ["DEFAULT"] * 2


def test_only_one_linear_layer_on_the_image_vector_is_a_classifier() -> None:
    matrix, bias = torch.rand(3, 4), torch.rand(3)
    for weights in ({"fc.weight": matrix}, {"head.fc.weight": matrix, "head.fc.bias": bias}):
        layer = linear_classifier(weights, 4)
        assert layer is not None
        expected = matrix.sum(1) + (bias if len(weights) > 1 else 0)
        torch.testing.assert_close(layer(torch.ones(4)), expected)
    for refused in (
        {},
        {"fc.bias": bias},
        {"fc.weight": torch.rand(3, 5)},
        {"fc.0.weight": torch.rand(4, 4), "fc.2.weight": matrix},
        {"fc.weight": matrix, "fc.bias": torch.rand(4)},
        {"fc.weight": matrix, "fc.bias": bias, "fc.norm.weight": bias},
    ):
        assert linear_classifier(refused, 4) is None


def test_several_teachers_are_opened_in_order_and_the_licence_is_asked_of_all(tmp_path: Path) -> None:
    first = save_teacher(tmp_path / "a", license="mit")
    config = EncoderConfig(name="vit_nano", image_size=16).fit(16)
    save_encoder(tmp_path / "b" / "encoder", build_encoder(config, 2), config, {"license": "cc-by-nc-4.0"})
    wanted = TeachersConfig(source=str(first), more=(TeacherConfig(source=str(tmp_path / "b"), image_size=32),))
    teachers, found = open_teachers(wanted)
    assert [teacher.dim for teacher in teachers] == [512, 64]
    assert (found.license, found.more[0].license) == ("mit", "cc-by-nc-4.0")
    assert (found.image_size, found.more[0].image_size) == (16, 32)
    assert len({found.digest, found.more[0].digest, ""}) == 3
    assert open_teachers(found)[1] == found
    with pytest.raises(SettingsError, match=r"b has the licence cc-by-nc-4\.0"):
        open_teachers(replace(wanted, require_license="permissive"))


def test_the_digest_covers_the_classifier(tmp_path: Path) -> None:
    digests = []
    for seed in (1, 2):
        good = dict(build_encoder(EncoderConfig(name="resnet10", image_size=16), 5).state_dict())
        torch.manual_seed(seed)
        torch.save({**good, "network.fc.weight": torch.rand(3, 512)}, tmp_path / "w.pt")
        digests.append(opened(source="resnet10", weights=str(tmp_path / "w.pt"), image_size=16).config.digest)
    assert digests[0] != digests[1]


def test_torchvision_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = models.mobilenet_v3_small().eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    found = opened(source="torchvision:mobilenet_v3_small", weights=str(tmp_path / "w.pt"), image_size=64)
    assert found.encoder.dim == 576
    images = torch.rand(1, 3, 64, 64)
    expected = model.avgpool(model.features(found.encoder.normalize(images))).flatten(1)
    torch.testing.assert_close(found.encoder(images), expected)


def test_a_network_of_ours_from_a_foreign_checkpoint_with_a_prefix(tmp_path: Path) -> None:
    source = build_encoder(EncoderConfig(name="resnet10", image_size=32), 3).eval()
    inner = {name.removeprefix("network."): tensor for name, tensor in source.state_dict().items()}
    content = {f"module.encoder_q.{name}": tensor for name, tensor in inner.items() if "normalize" not in name}
    content["module.encoder_q.fc.weight"] = torch.zeros(4, 512)
    content["module.queue"] = torch.zeros(3)
    torch.save({"state_dict": content}, tmp_path / "moco.pth")
    found = opened(source="resnet10", weights=str(tmp_path / "moco.pth"), prefix="encoder_q.", image_size=32)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(found.encoder(images), source(images))


def test_a_frozen_teacher_never_wakes_up_and_is_no_part_of_what_learns() -> None:
    teacher = FrozenTeacher(build_encoder(EncoderConfig(name="resnet10", image_size=16), 5))
    before = state_of(teacher)
    student = build_encoder(EncoderConfig(name="vit_nano", image_size=16))
    method = SimReg(SimRegConfig(hidden_dim=8), student, teacher).train()
    assert not any(module.training for module in teacher.encoder.modules())
    assert not any(name.startswith("teacher") for name in [*method.state_dict(), *dict(method.named_parameters())])
    method(random_batch(views=1), 0.5)["regression"].backward()
    teacher.train()
    teacher(torch.rand(4, 3, 16, 16))
    assert all(torch.equal(before[name], tensor) for name, tensor in state_of(teacher).items())
    assert all(parameter.grad is None for parameter in teacher.encoder.parameters())
    method.double()
    assert teacher(torch.rand(1, 3, 16, 16, dtype=torch.float64)).dtype == torch.float64


def test_freezing_leaves_the_given_encoder_as_it_was() -> None:
    encoder = build_encoder(EncoderConfig(name="resnet10", image_size=16)).train()
    FrozenTeacher(encoder)
    assert encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_views_of_another_size_are_resized_to_the_teachers() -> None:
    seen: list[tuple[int, ...]] = []

    class Told(type(build_encoder(EncoderConfig(name="resnet10", image_size=16)))):  # type: ignore[misc]
        def features(self, images: torch.Tensor) -> Any:
            seen.append(tuple(images.shape))
            return super().features(images)

    encoder = build_encoder(EncoderConfig(name="resnet10", image_size=16))
    encoder.__class__ = Told
    teacher = FrozenTeacher(encoder, 24)
    teacher(torch.rand(2, 3, 16, 16))
    teacher(torch.rand(2, 3, 24, 24))
    assert seen == [(2, 3, 24, 24)] * 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "pass --teacher"),
        ({"source": "resnet10"}, "pass --teacher-weights"),
        ({"source": "resnet11", "weights": "w.pt"}, "did you mean resnet1"),
        ({"source": "timm:resnet11t", "weights": "w.pt"}, "timm knows no such model"),
        ({"source": "torchvision:resnet19", "weights": "w.pt"}, "did you mean resnet1"),
        ({"source": "resnet10", "weights": "absent.pt", "image_size": 16}, "no file"),
        ({"source": "resnet10", "weights": "w.pt"}, "teacher.image_size"),
        ({"source": "resnet10", "weights": "w.pt", "image_size": 16}, "cannot be read as weights"),
        ({"source": "resnet10", "weights": "list.pt", "image_size": 16}, "holds no weights by name"),
        ({"source": "resnet10", "weights": "gray.pt", "image_size": 16}, r"conv1.weight \(64, 1, 3, 3\) instead of"),
        ({"source": "resnet10", "weights": "part.pt", "image_size": 16}, r"\d+ missing \(network.bn1.bias"),
        ({"source": "resnet34", "weights": "good.pt", "image_size": 16}, "missing"),
        ({"source": "resnet10", "weights": "more.pt", "image_size": 16}, r"1 left over \(network.extra"),
        ({"source": "resnet10", "weights": "good.pt", "image_size": 16, "prefix": "x."}, "teacher.prefix"),
        ({"source": "resnet10", "weights": "nan.pt", "image_size": 16}, "not finite"),
        (
            {"source": "resnet10", "weights": "good.pt", "image_size": 16, "require_license": "permissive"},
            "licence unknown",
        ),
    ],
)
def test_what_does_not_fit_is_told(
    settings: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = dict(build_encoder(EncoderConfig(name="resnet10", image_size=16)).state_dict())
    good = {name.removeprefix("network."): tensor for name, tensor in good.items() if "normalize" not in name}
    Path("w.pt").write_bytes(b"no weights at all")
    torch.save([1, 2], "list.pt")
    torch.save(good, "good.pt")
    torch.save({**good, "conv1.weight": torch.zeros(64, 1, 3, 3)}, "gray.pt")
    torch.save({"conv1.weight": good["conv1.weight"]}, "part.pt")
    torch.save({**good, "extra": torch.zeros(1)}, "more.pt")
    torch.save({**good, "bn1.weight": torch.full((64,), torch.nan)}, "nan.pt")
    with pytest.raises(SettingsError, match=told):
        opened(**settings)


def test_a_folder_without_an_encoder_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no encoder found"):
        opened(source=str(tmp_path))


def test_a_file_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"conv1.weight": Evil()}, tmp_path / "w.pt")
    with pytest.raises(SettingsError, match="cannot be read as weights"):
        opened(source="resnet10", weights=str(tmp_path / "w.pt"), image_size=16)
    assert not (tmp_path / "owned").exists()
