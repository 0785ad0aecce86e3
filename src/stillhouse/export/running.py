"""Running what was exported, whatever its format, and the live encoder in the same way.

Letters: B images, S pixels a side, D_l width after block l.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stillhouse.errors import RunError, SettingsError
from stillhouse.export import onnx_file, timm_folder, torch_file
from stillhouse.export.exits import output_name
from stillhouse.export.original import open_original, read_table
from stillhouse.export.placing import is_export
from stillhouse.networks.encoder import Encoder, undisturbed
from stillhouse.networks.saved import CARD

VERIFIED_AT_ONCE = 63
"""Images per call when an export is verified: a number that no network was traced with."""


@dataclass(frozen=True)
class Runner:
    """A network to be run on the CPU."""

    name: str
    """Where it is from."""
    format: str
    """`onnx`, `timm`, `torch`, or `live`."""
    image_size: int
    call: Callable[[Tensor], Mapping[str, Tensor]]
    """From images `[B, 3, S, S]` in [0, 1] to `[B, D_l]` of each output by name."""
    size_bytes: int
    """Of its weights and graph on the disk."""
    outputs: tuple[str, ...]
    """Names of what it gives."""

    def all(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs for any number of images, one batch after another."""
        answers = [self.call(chunk) for chunk in images.split(VERIFIED_AT_ONCE)]
        return {name: torch.cat([answer[name] for answer in answers]) for name in answers[0]}


def open_runner(path: Path, threads: int = 0) -> Runner:
    """What is to be run: an export's folder, its .onnx or .pt2 file, or a run directory or encoder folder (live).

    Args:
        path: a file or folder.
        threads: of ONNX Runtime; torch has its own setting.

    Raises:
        SettingsError: it is none of these, or a package is missing.
        RunError: a file is missing or damaged.
    """
    if path.suffix == ".onnx":
        return _onnx(path, threads)
    if path.suffix == ".pt2":
        return _torch(path)
    if is_export(path):
        file = path / str(read_table(path / CARD).get("file"))
        return open_runner(file, threads) if file.suffix in {".onnx", ".pt2"} else _timm(path)
    if not path.exists():
        raise RunError(f"{path}: nothing there; check the path")
    if not path.is_dir():
        raise SettingsError(f"{path}: not an .onnx file, a .pt2 file, an export, or a run directory")
    return _live(path)


def live_runner(encoder: Encoder, exits: Sequence[int], name: str) -> Runner:
    """Depths of an encoder as it is in this process; nothing of it is cut."""

    def call(images: Tensor) -> dict[str, Tensor]:
        with undisturbed(encoder):
            blocks = encoder.features(images).blocks
        return {output_name(depth): blocks[depth - 1] for depth in exits}

    size = sum(tensor.numel() * tensor.element_size() for tensor in encoder.state_dict().values())
    return Runner(name, "live", encoder.image_size, call, size, tuple(map(output_name, exits)))


def _live(path: Path) -> Runner:
    encoder = open_original(path).encoder
    return live_runner(encoder, range(1, len(encoder.block_dims) + 1), str(path))


def _onnx(path: Path, threads: int) -> Runner:
    session = onnx_file.open_onnx(path, threads)
    (images_in,), names = session.get_inputs(), [output.name for output in session.get_outputs()]

    def call(images: Tensor) -> dict[str, Tensor]:
        answers = session.run(names, {images_in.name: images.numpy()})
        return {name: torch.from_numpy(answer) for name, answer in zip(names, answers, strict=True)}

    return Runner(str(path), "onnx", images_in.shape[2], call, path.stat().st_size, tuple(names))


def _torch(path: Path) -> Runner:
    module, card = torch_file.open_torch(path), read_table(path.parent / CARD)
    names = [str(leaving["name"]) for leaving in card.get("exits", [])]
    size = int(card.get("image_size", 0))
    if not names or not size:
        raise RunError(f"{path.parent / CARD}: does not tell exits and image size; export it again")

    def call(images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(names, module(images), strict=True))

    return Runner(str(path), "torch", size, call, path.stat().st_size, tuple(names))


def _timm(folder: Path) -> Runner:
    (model, colours), card = timm_folder.open_timm(folder), read_table(folder / CARD)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in colours)
    name = str(card["exits"][0]["name"])

    def call(images: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {name: model((images - mean) / std)}

    size = (folder / timm_folder.FILE).stat().st_size
    return Runner(str(folder), "timm", int(card["image_size"]), call, size, (name,))
