"""What is exported is the live encoder, in a form that other programs run."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from stillhouse.errors import SettingsError
from stillhouse.export.agreement import Precision
from stillhouse.export.exporting import ExportConfig, Exported, export
from stillhouse.export.onnx_file import OPSET, open_onnx
from stillhouse.export.original import open_original
from stillhouse.networks.encoder import Encoder, undisturbed
from tests.export.conftest import MakeEncoder, some_images

onnx = pytest.importorskip("onnx")

FORBIDDEN = """
import sys
class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {forbidden!r}:
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Forbid())
"""


@dataclass(frozen=True)
class Made:
    """An export, and where it came from."""

    exported: Exported
    encoder: Encoder


Make = Callable[..., Made]


@pytest.fixture(scope="module")
def make(encoder_folder: MakeEncoder, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Export a nano network; the same one for the same words."""
    known: dict[str, Made] = {}

    def run(config: ExportConfig, name: str = "vit_nano", image_size: int = 16, **settings: str) -> Made:
        key = f"{config} {name} {image_size} {settings}"
        if key not in known:
            original = open_original(encoder_folder(name, image_size, **settings))
            out = tmp_path_factory.mktemp("out") / "made"
            known[key] = Made(export(original, out, config, some_images(image_size)), original.encoder)
        return known[key]

    return run


BOTH = ExportConfig(to="onnx", exits=(2, 1, 2))


def test_onnx_gives_every_exit_for_any_number_of_images(make: Make) -> None:
    made = make(BOTH)
    session = open_onnx(made.exported.file, 1)
    assert [output.name for output in session.get_outputs()] == ["depth_1", "depth_2"]
    for count in (1, 3):
        images = torch.rand(count, 3, 16, 16)
        with undisturbed(made.encoder):
            live = made.encoder.features(images).blocks
        for vector, block in zip(session.run(None, {"images": images.numpy()}), live, strict=True):
            np.testing.assert_allclose(vector, block.numpy(), atol=2e-5)


def test_an_onnx_file_is_checked_and_tells_no_path(make: Make) -> None:
    content = make(BOTH).exported.file.read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert b"site-packages" not in content
    assert b"stillhouse/" not in content


def test_onnx_needs_nothing_else(make: Make) -> None:
    made = make(BOTH)
    images = torch.rand(2, 3, 16, 16)
    program = FORBIDDEN.format(forbidden={"stillhouse", "torch", "timm", "onnx"}) + (
        "import numpy, onnxruntime\n"
        f"model = onnxruntime.InferenceSession({str(made.exported.file)!r})\n"
        f"images = numpy.array({images.flatten().tolist()}, dtype='float32').reshape(2, 3, 16, 16)\n"
        "print(model.run(['depth_2'], {'images': images})[0].tolist())\n"
    )
    found = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True).stdout
    with undisturbed(made.encoder):
        torch.testing.assert_close(torch.tensor(json.loads(found)), made.encoder(images), atol=2e-5, rtol=0)


def test_an_early_exit_leaves_out_the_blocks_above(make: Make) -> None:
    early, both = make(ExportConfig(to="onnx", exits=(1,), precision="int8")), make(BOTH)
    assert [agreement.name for agreement in early.exported.agreements] == ["depth_1"]
    names = {tensor.name for tensor in onnx.load(early.exported.file).graph.initializer}
    assert any("blocks.0" in name for name in names)
    assert not any("blocks.1" in name for name in names)
    assert early.exported.size_bytes < both.exported.size_bytes / 2


def test_int8_scales_weights_by_channel_and_keeps_directions(make: Make) -> None:
    made = make(ExportConfig(to="onnx", exits=(1,), precision="int8"))
    model = onnx.load(made.exported.file)
    sizes = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in model.graph.initializer}
    kinds = [kind for kind, dims in sizes.values() if len(dims) > 1]
    assert kinds.count(onnx.TensorProto.INT8) >= 5
    scales = [dims for name, (_, dims) in sizes.items() if name.endswith("_scale")]
    assert (256,) in scales  # one for each channel of the widest product
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    (agreement,) = made.exported.agreements
    assert 0.98 < agreement.cosine < 0.99999


@pytest.mark.slow
def test_float16_holds_half_the_bytes_and_normalizes_in_float32(make: Make) -> None:
    made = make(ExportConfig(to="onnx", exits=(1,), precision="float16"), modality="luminance")
    model = onnx.load(made.exported.file)
    wide = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims) > 100]
    assert {tensor.data_type for tensor in wide} == {onnx.TensorProto.FLOAT16}
    kind = onnx.TensorProto.FLOAT
    assert [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)] == [kind, kind]
    (agreement,) = made.exported.agreements
    assert 1e-5 < agreement.max_difference < 1e-2


def test_torch_loads_a_program(make: Make) -> None:
    made = make(ExportConfig(to="torch", exits=(1, 2)))
    program = torch.export.load(made.exported.file).module()
    images = torch.rand(3, 3, 16, 16)
    with undisturbed(made.encoder):
        live = made.encoder.features(images).blocks
        for vector, block in zip(program(images), live, strict=True):
            torch.testing.assert_close(vector, block, atol=1e-5, rtol=0)
        assert program(images[:1])[0].shape == (1, 64)
    assert b"site-packages" not in made.exported.file.read_bytes()


@pytest.mark.parametrize(
    ("name", "image_size", "exits", "settings"),
    [
        ("vit_nano", 16, (), {}),
        ("vit_nano", 16, (1,), {}),
        ("swin_nano", 16, (), {}),
        ("swin_nano", 16, (3,), {}),
        ("resnet10", 32, (), {"stem": "imagenet"}),
        ("timm:test_vit", 160, (), {}),
        ("timm:mobilenetv3_small_050", 32, (), {}),
    ],
)
def test_timm_knows_the_network(
    make: Make, name: str, image_size: int, exits: tuple[int, ...], settings: dict[str, str]
) -> None:
    made = make(ExportConfig(to="timm", exits=exits), name, image_size, **settings)
    import functools  # noqa: F401 (what the line may need)

    import timm  # noqa: F401 (what the line needs)

    model = eval(made.exported.load)  # the line that the user is told
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    images = torch.rand(2, 3, image_size, image_size)
    with undisturbed(made.encoder):
        live = made.encoder.features(images).blocks[exits[0] - 1 if exits else -1]
        torch.testing.assert_close(model((images - mean) / std), live, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "image_size", "exits", "settings", "hint"),
    [
        ("resnet10", 16, (), {}, "timm's residual networks begin with a 7x7 .* choose --to onnx or torch"),
        ("resnet10", 32, (2,), {"stem": "imagenet"}, "timm cannot end resnet10 before its last depth"),
        ("swin_nano", 16, (1,), {}, "timm normalizes after the last stage of a Swin"),
        ("vit_nano", 16, (1, 2), {}, "one output"),
        ("vit_nano", 16, (), {"modality": "luminance"}, "only the luminance"),
        ("vit_nano", 16, (3,), {}, "exit 3: the encoder has 2 blocks; choose from 1 to 2"),
        ("vit_nano", 16, (0,), {}, "exit 0: the encoder has 2 blocks"),
        ("timm:test_vit", 160, (1,), {}, "timm cannot end timm:test_vit before"),
    ],
)
def test_what_timm_cannot_hold(
    encoder_folder: MakeEncoder,
    tmp_path: Path,
    name: str,
    image_size: int,
    exits: tuple[int, ...],
    settings: dict[str, str],
    hint: str,
) -> None:
    original = open_original(encoder_folder(name, image_size, **settings))
    with pytest.raises(SettingsError, match=hint):
        export(original, tmp_path / "out", ExportConfig(to="timm", exits=exits), some_images(image_size))
    assert not any(tmp_path.iterdir())


def test_the_card_tells_the_rest(make: Make) -> None:
    folder = make(BOTH).exported.folder
    card, words = json.loads((folder / "card.json").read_text()), (folder / "README.md").read_text()
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "card.json", "README.md"}
    assert card["opset"] == OPSET
    assert card["exits"] == [{"name": f"depth_{depth}", "depth": depth, "dim": 64} for depth in (1, 2)]
    assert card["data"] == "photos"
    assert [found["max_difference"] < 1e-4 for found in card["verified"]["outputs"]] == [True, True]
    assert 'library_name: "onnx"' in words
    assert "onnxruntime.InferenceSession(" in words
    assert "/home" not in words + json.dumps(card)
    assert str(folder) not in words + json.dumps(card)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("vit_micro", 32),
        ("vit_tiny", 64),
        ("resnet18", 32),
        ("swin_nano", 16),
        ("timm:mobilenetv3_small_100", 64),
        ("timm:test_vit", 160),
        ("timm:deit_tiny_patch16_224", 224),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_networks_of_every_kind_as_onnx(make: Make, name: str, image_size: int, precision: Precision) -> None:
    made = make(ExportConfig(to="onnx", precision=precision), name, image_size)
    if precision == "float32":
        assert made.exported.agreements[0].max_difference < 1e-4
