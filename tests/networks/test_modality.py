"""Brightness and colour of an image, and networks that see only one of them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stillhouse.errors import SettingsError
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.foreign import TeacherConfig, open_teacher
from stillhouse.networks.modality import Modality, present, to_lab
from stillhouse.networks.saved import load_encoder, save_encoder
from stillhouse.networks.teacher import FrozenTeacher


def random_images() -> Tensor:
    return torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def slow_lab(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """One pixel, by the textbook."""
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (red, green, blue))
    xyz = (
        (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047,
        0.2126729 * r + 0.7151522 * g + 0.0721750 * b,
        (0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883,
    )
    x, y, z = (v ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_lab_equals_a_slow_loop_and_published_colours() -> None:
    images = random_images()
    images[0, :, 0] *= 0.05  # the straight parts of both curves
    fast = to_lab(images)
    for image, wanted in zip(images, fast, strict=True):
        for y in range(16):
            for x in range(16):
                slow = slow_lab(*image[:, y, x].tolist())
                assert wanted[:, y, x].tolist() == pytest.approx(slow, abs=1e-3)
    primaries = torch.eye(3, dtype=torch.float64).T.reshape(1, 3, 1, 3)
    red, green, blue = to_lab(primaries)[0, :, 0].T.tolist()
    assert red == pytest.approx([53.24, 80.09, 67.20], abs=0.01)
    assert green == pytest.approx([87.73, -86.18, 83.18], abs=0.01)
    assert blue == pytest.approx([32.30, 79.19, -107.86], abs=0.01)


def test_brightness_and_colour_know_nothing_of_each_other() -> None:
    gray = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)).expand(-1, 3, -1, -1)
    assert torch.equal(present(gray, "chrominance"), torch.full_like(gray, 0.5))
    images = random_images()
    bright, colour = present(images, "luminance"), present(images, "chrominance")
    assert bright.shape == colour.shape == images.shape
    assert torch.equal(bright[:, 0], bright[:, 2])
    assert 0 <= bright.min() < bright.max() <= 1
    lab = torch.cat([100 * bright[:, :1], 100 * (colour[:, :2] - 0.5)], dim=1)
    torch.testing.assert_close(lab, to_lab(images))
    assert present(images, "rgb") is images
    assert present(torch.ones(1, 3, 2, 2), "luminance").allclose(torch.ones(1))


@pytest.mark.parametrize(
    ("name", "modality"),
    [("vit_nano", "luminance"), ("resnet10", "chrominance"), ("timm:test_resnet", "chrominance")],
)
def test_an_encoder_brings_what_it_sees_along(name: str, modality: Modality, tmp_path: Path) -> None:
    config = EncoderConfig(name=name, image_size=32, modality=modality).fit(32)
    encoder, images = build_encoder(config, 3).eval(), torch.rand(2, 3, 32, 32)
    plain = build_encoder(EncoderConfig(name=name, image_size=32).fit(32), 3).eval()
    assert torch.equal(encoder(images), plain(present(images, modality)))
    save_encoder(tmp_path, encoder, config, {})
    assert torch.equal(load_encoder(tmp_path)[0](images), encoder(images))
    exported = torch.export.export(encoder, (images,)).module()
    torch.testing.assert_close(exported(images), encoder(images), atol=1e-5, rtol=1e-4)


def test_images_of_another_brightness_look_the_same_to_an_encoder_of_colour_alone() -> None:
    gray, darker = (torch.full((1, 3, 16, 16), value) for value in (0.7, 0.2))
    sees = build_encoder(EncoderConfig(name="resnet10", image_size=16, modality="chrominance")).eval()
    assert torch.equal(sees(gray), sees(darker))


def test_a_teacher_is_shown_what_its_settings_say(tmp_path: Path) -> None:
    encoder, images = build_encoder(EncoderConfig(name="resnet10", image_size=16), 5).eval(), torch.rand(2, 3, 16, 16)
    teacher = FrozenTeacher(encoder, modality="luminance")
    torch.testing.assert_close(teacher(images), encoder(present(images, "luminance")))
    config = EncoderConfig(name="resnet10", image_size=16, modality="luminance").fit(16)
    save_encoder(tmp_path / "encoder", build_encoder(config, 5), config, {})
    for named in ("rgb", "luminance"):  # what it brings along is not applied twice
        own = open_teacher(TeacherConfig(source=str(tmp_path), modality=named)).frozen()
        torch.testing.assert_close(own(images), teacher(images))
    with pytest.raises(SettingsError, match=r"teacher\.modality: chrominance, but .* brings its own, luminance"):
        open_teacher(TeacherConfig(source=str(tmp_path), modality="chrominance"))
