"""The encoder that is exported, as it lies on disk with what is known of it; no teacher and no head is ever opened."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.errors import RunError
from stillhouse.export.card import origin
from stillhouse.networks.build import EncoderConfig
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.saved import CARD, load_encoder


@dataclass(frozen=True)
class Words:
    """What is known of an encoder."""

    card: dict[str, Any]
    """Content of its card.json."""
    evaluation: dict[str, Any]
    """Content of its run's evaluation.json; empty where it was not evaluated, or trained on since."""
    settings_sha256: str
    """Hash of its run's recipe.toml; empty where there is none."""


@dataclass(frozen=True)
class Original:
    """A trained encoder and the words about it."""

    encoder: Encoder
    """On the CPU, in evaluation mode."""
    config: EncoderConfig
    words: Words


def open_original(folder: Path) -> Original:
    """Open a run directory, or the `encoder` (or `peer`) folder of one, alone or in its run.

    Raises:
        RunError: there is no encoder, a file is damaged, or a weight is not finite.
    """
    inner = folder if (folder / CARD).exists() else folder / "encoder"
    encoder, config = load_encoder(inner)
    broken = [name for name, tensor in encoder.state_dict().items() if not tensor.isfinite().all()]
    if broken:
        raise RunError(
            f"{inner}: {len(broken)} of its weights are not finite ({', '.join(broken[:3])}); "
            "export an earlier checkpoint, or train again with a lower learning rate"
        )
    return Original(encoder.requires_grad_(False), config, words_about(inner))


def words_about(folder: Path) -> Words:
    """What stands on an encoder's card and in the run around its folder, if it lies in one.

    Raises:
        RunError: a file is damaged.
    """
    card, run = read_table(folder / CARD), folder.parent
    if not (run / "recipe.toml").exists():
        return Words(card, {}, "")
    scores = run / ("evaluation-peer.json" if folder.name == "peer" else "evaluation.json")
    evaluation = read_table(scores) if scores.exists() else {}
    settings = hashlib.sha256((run / "recipe.toml").read_bytes()).hexdigest()
    try:
        judged = evaluation.get("encoder", {}).get("weights_sha256")
        origin(card, evaluation, settings, range(len(card["block_dims"]) + 1))
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{run}: {CARD} or {scores.name} is not what it was written as ({error!r}); evaluate again, "
            "or restore them from a copy"
        ) from error
    return Words(card, evaluation if not judged or judged == card.get("sha256") else {}, settings)


def read_table(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        RunError: the file is missing or holds none.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); restore it from a copy, or write it anew") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: holds no JSON object; restore it from a copy, or write it anew")
    return content
