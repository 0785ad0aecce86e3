"""The run directory: where everything of a run lies, and what may be read back from it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.config import Table, differences, parse_toml, to_toml
from stillhouse.errors import RunError
from stillhouse.export.card import of_encoder, readme
from stillhouse.export.original import words_about
from stillhouse.files import write_atomically
from stillhouse.methods.method import Method
from stillhouse.networks.build import EncoderConfig
from stillhouse.networks.classifier import CLASSIFIER, Classifier, load_classifier, save_classifier
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.saved import CARD, load_encoder, save_encoder
from stillhouse.recipes.recipe import Recipe, read_recipe
from stillhouse.training.checkpoint import Checkpoints, read_checkpoint

MARK = "# A run of stillhouse. A change made here is refused when the run is resumed.\n"
"""First line of a run's recipe.toml; what lies beside it may be replaced by a new run, if none was saved yet."""


@dataclass(frozen=True)
class Run:
    """A run directory; the names of its files."""

    folder: Path

    @property
    def recipe_file(self) -> Path:
        """Every setting, resolved."""
        return self.folder / "recipe.toml"

    @property
    def log_file(self) -> Path:
        """One JSON object per line."""
        return self.folder / "log.jsonl"

    @property
    def evaluation_file(self) -> Path:
        """Scores with the names of their protocols."""
        return self.folder / "evaluation.json"

    @property
    def atlas_file(self) -> Path:
        """Small test images, maps of them and their neighbours, for the page."""
        return self.folder / "atlas.npz"

    @property
    def samples_file(self) -> Path:
        """A few images and their views."""
        return self.folder / "samples.npz"

    @property
    def quarantine_file(self) -> Path:
        """Images that could not be used, each with its reason."""
        return self.folder / "quarantine.txt"

    @property
    def encoder_folder(self) -> Path:
        """Weights and card of the encoder."""
        return self.folder / "encoder"

    @property
    def classifier_folder(self) -> Path:
        """What stands on the encoder to name classes, where they were learnt."""
        return self.folder / CLASSIFIER

    @property
    def peer_folder(self) -> Path:
        """Weights and card of the peer, where two networks learned together."""
        return self.folder / "peer"

    @property
    def peer_evaluation_file(self) -> Path:
        """Scores of the peer."""
        return self.folder / "evaluation-peer.json"

    @property
    def checkpoints_folder(self) -> Path:
        """Where `last.pt` and `best.pt` lie."""
        return self.folder / "checkpoints"

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints, for reading."""
        return Checkpoints(self.checkpoints_folder)

    def read_table(self) -> Table:
        """The recipe as nested plain values.

        Raises:
            RunError: there is no recipe.
        """
        try:
            return parse_toml(self.recipe_file.read_text(), str(self.recipe_file))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.folder}: not a run directory ({error}); check the path") from error

    def read_recipe(self) -> Recipe:
        """The recipe; `RunError` or `SettingsError` when it is missing or wrong."""
        return read_recipe(self.read_table())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training here meanwhile, and clear away what a killed one left half written.

        Raises:
            RunError: another process trains here, or the folder cannot be made or read.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY)
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.folder}: cannot be used as a run directory ({error}); choose another place"
            ) from error
        try:
            self._lock(descriptor)
            if self._is_ours():
                for rest in [*self.folder.glob(".*.tmp"), *self.folder.glob("*/.*.tmp")]:
                    rest.unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"{self.folder}: another process is training here; wait for it, or choose another --out"
            ) from error

    def claim(self, recipe: Recipe) -> None:
        """Make this the directory of a new run.

        Raises:
            RunError: the directory already holds a run or somebody's files, or cannot be written.
        """
        if self.checkpoints.last.exists() or self.checkpoints.best.exists():
            changed = differences(*({**table, "about": {}} for table in (self.read_table(), recipe.to_table())))
            told = f"; other settings: {'; '.join(changed)}" if changed else ""
            raise RunError(
                f"{self.folder}: already holds a run{told}; continue it with `stillhouse resume {self.folder}` "
                "or choose another --out"
            )
        if any(self.folder.iterdir()) and not self._is_ours():
            raise RunError(
                f"{self.folder}: holds files that are not of a run; choose a new or an empty folder as --out"
            )
        kept = [folder / CARD for folder in (self.encoder_folder, self.peer_folder, self.classifier_folder)]
        for path in (self.log_file, self.evaluation_file, self.atlas_file, self.folder / "report.html", *kept):
            path.unlink(missing_ok=True)  # of a run that died before it saved anything
        write_atomically(self.recipe_file, MARK + to_toml(recipe.to_table()))

    def _is_ours(self) -> bool:
        return self.recipe_file.is_file() and self.recipe_file.read_bytes().startswith(MARK.encode())

    def check_unchanged(self) -> None:
        """Raise `RunError`, naming the keys, when recipe.toml is not what the checkpoint was trained with."""
        trained = read_checkpoint(self.checkpoints.last)["recipe"]
        changed = differences(trained, self.read_table())
        if changed:
            raise RunError(
                f"{self.recipe_file}: changed since the run began ({'; '.join(changed)}); "
                "set it back to resume, or train anew with another --out"
            )

    def load(self) -> Encoder:
        """The encoder that training wrote, in evaluation mode; `RunError` when there is none yet."""
        if not self.encoder_folder.exists() and (self.folder / "card.json").exists():
            return load_encoder(self.folder)[0]
        return load_encoder(self.encoder_folder)[0]

    def load_classifier(self) -> Classifier:
        """The encoder with its class scores, in evaluation mode; `RunError` when no classes were learnt."""
        return load_classifier(self.folder)

    def load_peer(self) -> Encoder:
        """The second encoder that training wrote; `RunError` when there is none."""
        return load_encoder(self.peer_folder)[0]

    def save(self, method: Method, recipe: Recipe, step: int) -> None:
        """Write the encoder, and peer or classifier where there is one, each with a card that tells the step."""
        self._save(self.encoder_folder, method.encoder, recipe.encoder, recipe, step)
        if method.peer is not None:
            self._save(self.peer_folder, method.peer, recipe.peer, recipe, step)
        if method.classifier is not None:
            assert method.classifier.encoder is method.encoder
            save_classifier(self.folder, method.classifier, {"method": recipe.method.title, "steps": step})

    def is_saved(self, method: Method, step: int) -> bool:
        """Whether everything that `save` writes of the method is there, as it was after this step."""
        folders = [self.encoder_folder]
        folders += [self.peer_folder] if method.peer is not None else []
        folders += [self.classifier_folder] if method.classifier is not None else []
        cards = [folder / CARD for folder in folders]
        return all(_steps_in(card) == step for card in cards)

    def _save(self, folder: Path, encoder: Encoder, config: EncoderConfig, recipe: Recipe, step: int) -> None:
        card = {
            "method": recipe.method.title,
            "data": recipe.data.uri,
            "steps": step,
            "labels": "with" if "labels" in recipe.method.companions else "without",
            "images": "RGB in [0, 1]; normalization is inside the encoder",
        }
        if recipe.teacher.source:
            told = [
                {"source": known.source, "sha256": known.digest, "license": known.license or "unknown"}
                for known in (recipe.teacher, *recipe.teacher.more)
            ]
            card["teacher"] = told[0]
            if len(told) > 1:
                card["more_teachers"] = told[1:]
        if recipe.start.source:
            card["start"] = {"source": recipe.start.source, "sha256": recipe.start.digest}
        save_encoder(folder, encoder, config, card)
        self._describe(folder)

    def describe(self) -> None:
        """Write the README.md of the encoder, and of a peer, with all that is known by now, such as its scores."""
        for folder in (self.encoder_folder, self.peer_folder):
            if (folder / CARD).exists():
                self._describe(folder)

    def _describe(self, folder: Path) -> None:
        words = words_about(folder)
        told = of_encoder(words.card, words.evaluation, words.settings_sha256, "RUN_DIRECTORY")
        write_atomically(folder / "README.md", readme(told))


def _steps_in(card: Path) -> Any:
    """What a card tells of the steps; nothing where it is absent or damaged."""
    try:
        return json.loads(card.read_text())["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load(path: str | Path) -> Encoder:
    """The encoder of a run directory (or of its `encoder` folder), an `nn.Module` in evaluation mode.

    Raises:
        RunError: there is none, or it is damaged.
    """
    return Run(Path(path)).load()
