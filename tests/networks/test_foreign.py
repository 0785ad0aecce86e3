"""Teachers from anywhere, frozen; and what is said when one does not fit."""

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
        found.network(torch.ones(1, 3, 16, 16)),
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
    torch.testing.assert_close(found.network(images), expected)
    assert found.config.license == ("mit" if file.endswith("safetensors") else "")


def test_torchvision_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = models.mobilenet_v3_small().eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    found = opened(source="torchvision:mobilenet_v3_small", weights=str(tmp_path / "w.pt"), image_size=64)
    assert found.network.dim == 576
    images = torch.rand(1, 3, 64, 64)
    expected = model.avgpool(model.features(found.network.normalize(images))).flatten(1)
    torch.testing.assert_close(found.network(images), expected)


def test_a_network_of_ours_from_a_foreign_checkpoint_with_a_prefix(tmp_path: Path) -> None:
    source = build_encoder(EncoderConfig(name="resnet10", image_size=32), 3).eval()
    inner = {name.removeprefix("network."): tensor for name, tensor in source.state_dict().items()}
    content = {f"module.encoder_q.{name}": tensor for name, tensor in inner.items() if "normalize" not in name}
    content["module.encoder_q.fc.weight"] = torch.zeros(4, 512)
    content["module.queue"] = torch.zeros(3)
    torch.save({"state_dict": content}, tmp_path / "moco.pth")
    found = opened(source="resnet10", weights=str(tmp_path / "moco.pth"), prefix="encoder_q.", image_size=32)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(found.network(images), source(images))


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
