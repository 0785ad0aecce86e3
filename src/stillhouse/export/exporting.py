"""From an encoder on disk to a folder that other programs run: written, verified against the live encoder, then named.

Letters: N images, S pixels a side.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

import stillhouse
from stillhouse.errors import SettingsError
from stillhouse.export import card, onnx_file, timm_folder, torch_file
from stillhouse.export.agreement import TOLERANCES, Agreement, Precision, compare, insist
from stillhouse.export.exits import INPUT, Exits
from stillhouse.export.original import Original
from stillhouse.export.placing import placed
from stillhouse.export.running import live_runner, open_runner
from stillhouse.files import write_atomically
from stillhouse.networks.saved import CARD

Kind = Literal["onnx", "timm", "torch"]
NOISE = 64
"""Images of noise that stand in where there are none."""
FILES = {"onnx": onnx_file.FILE, "timm": timm_folder.FILE, "torch": torch_file.FILE}


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is to be made of an encoder."""

    to: Kind
    """`onnx` for ONNX Runtime and others, `timm` for `timm.create_model`, `torch` for `torch.export.load`."""
    exits: tuple[int, ...] = ()
    """Depths, from 1; each is an output, and blocks above the deepest are left out. Empty means the last one."""
    precision: Precision = "float32"
    """`float16` or `int8`, for `onnx` alone."""
    license: str = card.UNKNOWN
    """Of the weights, as the card tells it."""
    data_license: str = card.UNKNOWN
    """Of the images that were learnt from, as the card tells it."""
    force: bool = False
    """Replace an earlier export."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("to", self.to, get_args(Kind)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in known:
                raise SettingsError(f"{name}: {value!r} is unknown; choose {', '.join(known)}")
        if self.precision != "float32" and self.to != "onnx":
            raise SettingsError(f"precision: {self.precision} is made for onnx only; leave it out, or choose --to onnx")


@dataclass(frozen=True)
class Images:
    """Images to verify on, apart from those to calibrate by; `[N, 3, S, S]` float32 in [0, 1]."""

    verification: Tensor
    calibration: Tensor
    told: str
    """Where they are from, in words."""

    @staticmethod
    def noise(image_size: int) -> "Images":
        """Images without meaning, and none to calibrate by."""
        random = torch.Generator().manual_seed(0)
        drawn = torch.rand(NOISE, 3, image_size, image_size, generator=random)
        return Images(drawn, drawn[:0], "noise, since there were no images")


@dataclass(frozen=True)
class Exported:
    """An export that agrees with the live encoder."""

    folder: Path
    file: Path
    """The weights, or weights and graph."""
    size_bytes: int
    agreements: tuple[Agreement, ...]
    """One per output."""
    images: str
    """What it was verified on."""
    load: str
    """What loads it, as a line of Python."""


def export(
    original: Original,
    out: Path,
    config: ExportConfig,
    images: Images,
    progress: Callable[[str, float], None] = lambda part, share: None,
) -> Exported:
    """Write an encoder in another form; or nothing, if what was written is not equal to it.

    Args:
        original: the encoder.
        out: folder to make: the file of the format, card.json and README.md.
        config: form, exits and precision.
        images: shown to both; `int8` needs some to calibrate by.
        progress: told which part is under way and the share of all that is done.

    Raises:
        SettingsError: `out` exists, an exit is unknown, the format cannot hold this network, a package is missing.
        RunError: the result differs from the live encoder by more than is allowed, or the disk refuses.
    """
    if config.precision == "int8" and not len(images.calibration):
        raise SettingsError("precision: int8 is scaled by what images show, and there are none; name some with --data")
    network = Exits(original.encoder, config.exits)
    with placed(out, force=config.force) as folder:
        progress("writing", 0.0)
        load = _write(original, network, config, images, folder)
        facts = _facts(original, network, config, folder, load.replace("FOLDER", out.name))
        write_atomically(folder / CARD, card.as_json(facts))  # needed to open some of them
        progress("verifying", 0.7)
        agreements = _verify(original, network, folder, config, images)
        verified = {"images": card.public_name(images.told), "outputs": [dataclasses.asdict(a) for a in agreements]}
        facts["verified"] = verified
        write_atomically(folder / CARD, card.as_json(facts))
        write_atomically(folder / "README.md", card.readme(facts))
    file = out / FILES[config.to]
    return Exported(out, file, file.stat().st_size, agreements, images.told, load.replace("FOLDER", str(out)))


def _write(original: Original, network: Exits, config: ExportConfig, images: Images, folder: Path) -> str:
    """Write the network; the answer is the line of Python that loads it from FOLDER."""
    file = folder / FILES[config.to]
    if config.to == "timm":
        return timm_folder.write_timm(network, original.config.name, len(original.encoder.block_dims), folder)
    if config.to == "torch":
        torch_file.write_torch(network, file)
        return f'torch.export.load("FOLDER/{file.name}").module()'
    onnx_file.write_onnx(network, file, config.precision, images.calibration)
    return f'onnxruntime.InferenceSession("FOLDER/{file.name}")'


def _verify(
    original: Original, network: Exits, folder: Path, config: ExportConfig, images: Images
) -> tuple[Agreement, ...]:
    """Show the whole live encoder and the file the same images; `RunError` when they differ by too much."""
    count = len(original.encoder.block_dims)
    live = live_runner(original.encoder, range(1, count + 1), "live").all(images.verification)
    made = open_runner(folder, torch.get_num_threads()).all(images.verification)
    agreements = tuple(compare(name, live[name], made[name]) for name in network.names)
    for agreement in agreements:
        insist(agreement, TOLERANCES[config.precision if config.to == "onnx" else "same program"])
    return agreements


def _facts(original: Original, network: Exits, config: ExportConfig, folder: Path, load: str) -> dict[str, object]:
    size, file = original.encoder.image_size, folder / FILES[config.to]
    normalize, words = network.encoder.normalize, original.words
    return {
        "format": config.to,
        "file": file.name,
        "file_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "precision": config.precision,
        **({"opset": onnx_file.OPSET} if config.to == "onnx" else {}),
        "stillhouse": stillhouse.__version__,
        "load": load,
        "license": config.license,
        "data_license": config.data_license,
        "image_size": size,
        "input": {
            "name": INPUT,
            "shape": ["batch", 3, size, size],
            "type": "float32",
            "range": [0, 1],
            "colours": "RGB",
        },
        "normalization": "outside" if config.to == "timm" else "inside",
        "mean": [round(value, 6) for value in normalize.mean.flatten().tolist()],
        "std": [round(value, 6) for value in normalize.std.flatten().tolist()],
        "exits": [
            {"name": name, "depth": depth, "dim": dim}
            for name, depth, dim in zip(network.names, network.exits, network.dims, strict=True)
        ],
        **card.origin(words.card, words.evaluation, words.settings_sha256, network.exits),
    }
