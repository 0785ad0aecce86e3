"""Checkpoints: everything a run needs to go on as if nothing had happened."""

import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stillhouse.distributed import is_main
from stillhouse.errors import RunError
from stillhouse.files import link_atomically, write_atomically

VERSION = 1


@dataclass
class TrainingState:
    """How far a run is."""

    step: int = 0
    """Optimizer steps done."""
    best: float = -1.0
    """Best monitored score so far; -1 before the first."""
    best_step: int = 0
    """When that was."""
    seconds: float = 0.0
    """Time spent training, over all resumptions."""


@dataclass(frozen=True)
class Checkpoints:
    """The folder of `last.pt` and `best.pt`; a write either replaces a file whole or leaves it alone."""

    folder: Path
    recipe: dict[str, Any] = field(default_factory=dict)
    """Every setting of the run as plain values, stored in each checkpoint."""
    data: dict[str, Any] = field(default_factory=dict)
    """What tells the images apart from others, as plain values: `images` counts them."""

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best monitored score; the same bytes as `last.pt` when that is the best."""
        return self.folder / "best.pt"

    def save(self, method: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState) -> None:
        """Write `last.pt`.

        Raises:
            RunError: the disk refuses; the old checkpoint stays.
        """
        content = {
            "version": VERSION,
            "recipe": self.recipe,
            "data": self.data,
            "progress": asdict(state),
            "method": method.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": _random_state(),
        }
        write_atomically(self.last, lambda file: torch.save(content, file))

    def check_images(self) -> dict[str, Any]:
        """The content of `last.pt`; `RunError` as from `read_checkpoint`, and when the images are other ones now."""
        content = read_checkpoint(self.last)
        if content.get("data") != self.data:
            then, now = (data.get("images", "unknown") for data in (content.get("data", {}), self.data))
            raise RunError(
                f"{self.last}: the images changed since the run began ({then} images then, {now} now); "
                "put them back as they were to resume, or train anew with another --out"
            )
        return content

    def read_step(self) -> int:
        """Optimizer steps done when `last.pt` was written; `RunError` as from `read_checkpoint`."""
        return int(read_checkpoint(self.last)["progress"]["step"])

    def mark_best(self) -> None:
        """Let `best.pt` be the bytes of `last.pt`, written once."""
        link_atomically(self.last, self.best)

    def restore(self, method: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState:
        """Put method, optimizer and random numbers back to where `last.pt` left them.

        Raises:
            RunError: the file is missing, damaged or of another version, or the images are not the same any more.
        """
        content = self.check_images()
        try:
            method.load_state_dict(content["method"])
            optimizer.load_state_dict(content["optimizer"])
            _set_random_state(content["random"])
            state = TrainingState(**content["progress"])
            if is_main() and 0 < state.step == state.best_step:  # a crash may have come between saving and marking
                self.mark_best()
            return state
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(
                f"{self.last}: does not fit this run ({error}); resume with the version that wrote it"
            ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors and plain values of a checkpoint, on the CPU; nothing in the file is executed.

    Raises:
        RunError: the file is missing, damaged or of another version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"{path}: no checkpoint found; train first, or check the path") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RunError(f"{path}: cannot be read ({error}); restore it from a copy") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise RunError(f"{path}: not a checkpoint of version {VERSION}; resume with the version that wrote it")
    return content


def _random_state() -> dict[str, Any]:
    return {
        "cpu": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])
