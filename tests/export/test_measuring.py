"""Costs are measured in processes of their own; what cannot be run is told."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.errors import DataError, RunError, SettingsError
from stillhouse.export import clock
from stillhouse.export.exporting import ExportConfig, export
from stillhouse.export.measuring import Cost
from stillhouse.export.original import open_original
from stillhouse.export.running import open_runner
from stillhouse.networks.encoder import undisturbed
from stillhouse.recipes import benching
from stillhouse.recipes.benching import bench_export
from stillhouse.recipes.directory import load
from stillhouse.recipes.judging import evaluate
from tests.export.conftest import MakeEncoder, some_images


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep decoded images out of the user's cache."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def test_a_clock_tells_time_and_memory(encoder_folder: MakeEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    clock.main([str(encoder_folder()), "1", "1", "0"])
    found = json.loads(capsys.readouterr().out)
    assert set(found["milliseconds"]) == {"1", "32"}
    assert all(0 < times["median"] <= times["p90"] for times in found["milliseconds"].values())
    assert found["milliseconds"]["32"]["median"] > found["milliseconds"]["1"]["median"]


def test_memory_is_the_processs_own() -> None:
    """A child does not inherit the peak of the large process that starts it."""
    ballast = torch.ones(50_000_000)  # 200 MB
    program = "from stillhouse.export.clock import peak_bytes; print(peak_bytes())"
    child = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert 5e6 < child < 150e6
    assert clock.peak_bytes() > ballast.numel() * 4


def test_a_live_encoder_at_every_depth(
    encoder_folder: MakeEncoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []

    def cost(path: Path, depth: int, *rest: object) -> Cost:
        asked.append(depth)
        return Cost(
            path=str(path), format="live", precision="float32", outputs=(f"depth_{depth}",), size_bytes=1,
            milliseconds={"1": {"median": depth, "p90": depth}}, peak_bytes=1, threads=1,
        )  # fmt: skip

    monkeypatch.setattr("stillhouse.export.measuring._cost", cost)
    images: dict[str, Any] = {"train": "digits#train", "test": "digits#test", "limit": 100}
    rows = bench_export([encoder_folder()], out=tmp_path / "bench.json", **images)
    assert asked == [1, 2]
    judged = evaluate(load(encoder_folder()), **images).of("encoder", "knn")
    accuracies = [row.accuracy[f"depth_{depth}"] for depth, row in enumerate(rows, 1)]
    assert accuracies == [result.accuracy for result in judged]
    written = json.loads((tmp_path / "bench.json").read_text())["networks"]
    assert [row["knn_accuracy"] for row in written] == [row.accuracy for row in rows]
    bench_export([encoder_folder()], exits=[2])
    assert asked == [1, 2, 2]


def test_an_exported_folder_is_run_as_the_live_one(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    original = open_original(encoder_folder())
    export(original, tmp_path / "out", ExportConfig(to="timm"), some_images(16, 4))
    images = torch.rand(70, 3, 16, 16)
    runner = open_runner(tmp_path / "out")
    with undisturbed(original.encoder):
        torch.testing.assert_close(runner.all(images)["depth_2"], original.encoder(images), atol=1e-5, rtol=0)
    assert (runner.format, runner.image_size, runner.outputs) == ("timm", 16, ("depth_2",))
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(RunError, match="not a folder that timm can load"):
        open_runner(tmp_path / "out")


def test_what_cannot_be_run(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    (tmp_path / "noise.pt2").write_bytes(b"noise")
    (tmp_path / "noise.txt").write_bytes(b"noise")
    for name, kind, hint in (
        ("noise.onnx", RunError, "not an ONNX file that ONNX Runtime can run"),
        ("noise.pt2", RunError, "not an exported program of torch"),
        ("noise.txt", SettingsError, "not an .onnx file"),
        ("missing", RunError, "nothing there"),
        ("missing.onnx", RunError, "cannot be read"),
    ):
        with pytest.raises(kind, match=hint):
            bench_export([tmp_path / name])
    with pytest.raises(SettingsError, match="name both or none"):
        bench_export([encoder_folder()], train="digits#train")


def test_an_onnx_file_of_somebody_else(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    kind = onnx.TensorProto.FLOAT
    entry, leaving = (onnx.helper.make_tensor_value_info(name, kind, [1, 2]) for name in ("x", "y"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [entry], [leaving])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(RunError, match=r"not an export of stillhouse: its inputs are x \[1, 2\]"):
        open_runner(tmp_path / "foreign.onnx")


def test_images_without_labels_give_no_accuracy(tmp_path: Path, encoder_folder: MakeEncoder) -> None:
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (16, 16), (number * 40, 0, 0)).save(tmp_path / f"{number}.png")
    runner = open_runner(encoder_folder())
    with pytest.raises(DataError, match="no labels in both sets"):
        benching._accuracy(runner, str(tmp_path), str(tmp_path), 0)
