"""What goes wrong is one clear error, and nothing half-written is left."""

import json
import resource
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stillhouse.errors import RunError, SettingsError
from stillhouse.export import exporting
from stillhouse.export.agreement import TOLERANCES, compare, insist
from stillhouse.export.exporting import ExportConfig, Images, export
from stillhouse.export.onnx_file import packages
from stillhouse.export.original import open_original
from stillhouse.export.running import Runner, open_runner
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.saved import save_encoder
from tests.export.conftest import MakeEncoder, some_images

TIMM = ExportConfig(to="timm")


def export_to(out: Path, folder: Path, **settings: Any) -> None:
    export(open_original(folder), out, ExportConfig(**{"to": "timm", **settings}), some_images(16, 4))


def test_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"card.json: no encoder found; check the path"):
        open_original(tmp_path / "missing")


def test_damaged_weights(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    folder = Path(shutil.copytree(encoder_folder(), tmp_path / "encoder"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match="cannot be read"):
        open_original(folder)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    config = EncoderConfig(name="vit_nano", image_size=16).fit(16)
    encoder = build_encoder(config)
    with torch.no_grad():
        encoder.get_parameter("norm.weight")[3] = torch.nan
    save_encoder(tmp_path, encoder, config, {})
    with pytest.raises(RunError, match=r"1 of its weights are not finite \(norm.weight\)"):
        open_original(tmp_path)


@pytest.mark.parametrize("evaluation", ["{", "[]", '{"results": [{"subject": "encoder"}]}', '{"encoder": []}'])
def test_a_damaged_evaluation(tmp_path: Path, encoder_folder: MakeEncoder, evaluation: str) -> None:
    shutil.copytree(encoder_folder(), tmp_path / "encoder")
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / "evaluation.json").write_text(evaluation)
    with pytest.raises(RunError, match=r"evaluation\.json"):
        open_original(tmp_path)


def test_scores_of_other_weights_are_not_told(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    shutil.copytree(encoder_folder(), tmp_path / "encoder")
    (tmp_path / "recipe.toml").write_text("")
    own = json.loads((tmp_path / "encoder/card.json").read_text())["sha256"]
    for judged, told in ((own, True), ("another", False), ("", True)):
        (tmp_path / "evaluation.json").write_text(json.dumps({"encoder": {"weights_sha256": judged}}))
        assert bool(open_original(tmp_path).words.evaluation) is told


def test_a_place_that_is_taken(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    out, folder = tmp_path / "out", encoder_folder()
    out.mkdir()
    export_to(out, folder)  # an empty folder is free
    first = (out / "card.json").read_bytes()
    with pytest.raises(SettingsError, match=r"out: .*out exists; choose another place, or pass --force"):
        export_to(out, folder)
    assert (out / "card.json").read_bytes() == first
    export_to(out, folder, exits=(1,), force=True)
    assert json.loads((out / "card.json").read_text())["exits"][0]["depth"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_nothing_but_exports(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    taken = Path(shutil.copytree(encoder_folder(), tmp_path / "encoder"))
    before = {path.name: path.read_bytes() for path in taken.iterdir()}
    (tmp_path / "link").symlink_to(taken)
    for out in (taken, tmp_path / "link"):
        with pytest.raises(SettingsError, match="is not an earlier export, so --force does not replace it"):
            export_to(out, taken, force=True)
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == before


def test_a_file_where_a_folder_is_made(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    with pytest.raises(SettingsError, match="looks like a file; name a folder"):
        export_to(tmp_path / "model.onnx", encoder_folder())
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        export_to(tmp_path / "file" / "out", encoder_folder())


def test_a_full_disk(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    folder, out = encoder_folder(), tmp_path / "out"
    export_to(out, folder)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the weights have 420 kB
    try:
        for place, force in ((out, True), (tmp_path / "new", False)):
            with pytest.raises(RunError, match="cannot be written"):
                export_to(place, folder, force=force)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_what_is_not_equal_is_not_written(
    tmp_path: Path, encoder_folder: MakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(path: Path, threads: int = 0) -> Runner:
        runner = open_runner(path, threads)

        def call(images: torch.Tensor) -> Mapping[str, torch.Tensor]:
            return {name: vectors + 1e-3 for name, vectors in runner.call(images).items()}

        return Runner(runner.name, runner.format, runner.image_size, call, runner.size_bytes, runner.outputs)

    monkeypatch.setattr(exporting, "open_runner", shifted)
    with pytest.raises(RunError, match=r"output depth_2 differs .* by up to 0.001 .*; nothing was written"):
        export_to(tmp_path / "out", encoder_folder())
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["float32", "float16", "same program"])
def test_tolerances(precision: str) -> None:
    allowed = TOLERANCES[precision]
    live = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    near, far = live.clone(), live.clone()
    near[0, 0] += 0.9 * allowed.difference
    far[0, 0] += 1.1 * allowed.difference
    assert compare("v", live, near).max_difference == pytest.approx(0.9 * allowed.difference, rel=0.1)
    insist(compare("v", live, near), allowed)
    for bad in (far, live * torch.nan):
        with pytest.raises(RunError):
            insist(compare("v", live, bad), allowed)


def test_neighbours_and_cosines_in_closed_form() -> None:
    live = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [0.0, 0.0]])
    turned = live.clone()
    turned[3] = torch.tensor([1.0, 0.0])  # now beside the first two
    found = compare("v", live, turned)
    assert found.neighbours == pytest.approx(2 / 5)  # the second still finds the first; zeros have no choice
    cosine = 0.1 / (1.01**0.5)
    assert found.worst_cosine == pytest.approx(cosine, rel=1e-6)
    assert found.cosine == pytest.approx((4 + cosine) / 5)
    assert found.max_difference == 1.0
    assert compare("v", live, live).neighbours == 1


def test_int8_needs_images(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    original = open_original(encoder_folder())
    with pytest.raises(SettingsError, match="name some with --data"):
        export(original, tmp_path / "out", ExportConfig(to="onnx", precision="int8"), Images.noise(16))


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"to": "tflite"}, "to: 'tflite' is unknown; choose onnx, timm, torch"),
        ({"to": "onnx", "precision": "int4"}, "precision: 'int4' is unknown"),
        ({"to": "torch", "precision": "int8"}, "made for onnx only"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], hint: str) -> None:
    with pytest.raises(SettingsError, match=hint):
        ExportConfig(**settings)


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SettingsError, match=r"export: onnxscript is not installed; pip install 'stillhouse\[onnx\]'"):
        packages()


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_a_network_that_cannot_be_traced(
    tmp_path: Path, encoder_folder: MakeEncoder, monkeypatch: pytest.MonkeyPatch, to: Any
) -> None:
    original = open_original(encoder_folder())

    def stubborn(images: torch.Tensor) -> torch.Tensor:
        if images.mean().item() > 0.5:  # depends on the values
            raise AssertionError
        return images

    monkeypatch.setattr(original.encoder, "_embed", stubborn)
    with pytest.raises(RunError, match=r"export: this network cannot be (written as ONNX|traced) .*; choose"):
        export(original, tmp_path / "out", ExportConfig(to=to), some_images(16, 4))
    assert not any(tmp_path.iterdir())


def test_exporting_leaves_the_original_as_it_was(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    folder = encoder_folder()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    original = open_original(folder)
    export(original, tmp_path / "out", ExportConfig(to="timm", exits=(1,)), some_images(16, 4))
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in original.encoder.state_dict().items())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
