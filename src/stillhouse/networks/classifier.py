"""An encoder that also names the class of an image.

Letters: B images, C classes, D width of the encoder.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from stillhouse.errors import RunError
from stillhouse.files import write_atomically
from stillhouse.networks.encoder import Encoder
from stillhouse.networks.heads import first_layers, layer_widths, mlp
from stillhouse.networks.saved import CARD, WEIGHTS, load_encoder

CLASSIFIER = "classifier"
"""Folder inside a run directory."""


class Classifier(nn.Module):
    """An encoder, the first layers of a projection head (or none), and a linear layer to class scores.

    Args:
        encoder: gives the image vector.
        head: hidden layers, as from `first_layers`; an empty one leaves the vector as it is.
        classes: names of the C classes, in the order of the scores.
        zero_output: whether the linear layer starts at zero; the first loss is then exactly `log C`, and the encoder
            gets its first gradient in the second step.

    Source: Chen et al. 2020 (SimCLRv2), fine-tuning from a middle layer of the projection head.
    """

    def __init__(self, encoder: Encoder, head: nn.Sequential, classes: tuple[str, ...], *, zero_output: bool) -> None:
        super().__init__()
        self.encoder, self.head, self.classes = encoder, head, classes
        self.output = nn.Linear([encoder.dim, *layer_widths(head)][-1], len(classes))
        if zero_output:
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)

    @property
    def scorer(self) -> nn.Sequential:
        """What stands on the encoder: from image vectors `[B, D]` to class scores `[B, C]`."""
        return nn.Sequential(*self.head, self.output)

    def score(self, pooled: Tensor) -> Tensor:
        """Class scores `[B, C]` of image vectors `[B, D]` of its encoder."""
        return self.output(self.head(pooled))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Class scores `[B, C]` of images `[B, 3, H, W]` in [0, 1]."""
        return self.score(self.encoder(images))


def save_classifier(folder: Path, classifier: Classifier, card: dict[str, Any]) -> None:
    """Write what stands on the encoder into the `classifier` folder of a run directory.

    The encoder itself lies beside it, in `encoder`, and must have been written before: the card holds its hash.

    Args:
        folder: the run directory.
        classifier: what was trained.
        card: anything else worth knowing, as plain values.

    Raises:
        RunError: the disk refuses.
    """
    weights = {name: value for name, value in classifier.state_dict().items() if not name.startswith("encoder.")}
    packed = save({name: value.detach().cpu().contiguous() for name, value in weights.items()}, {"format": "pt"})
    write_atomically(folder / CLASSIFIER / WEIGHTS, packed)
    content = {
        "classes": list(classifier.classes),
        "head_widths": layer_widths(classifier.head),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "encoder_sha256": _encoder_hash(folder),
        **card,
    }
    write_atomically(folder / CLASSIFIER / CARD, json.dumps(content, indent=2) + "\n")


def load_classifier(path: str | Path) -> Classifier:
    """The classifier of a run directory, an `nn.Module` in evaluation mode; `classes` names its scores.

    Raises:
        RunError: the run has none, or a file is missing or damaged, or they do not belong together.
    """
    folder = Path(path)
    if not (folder / CLASSIFIER / CARD).is_file():
        raise RunError(f"{folder}: no classifier in it; name the directory of a run that learnt classes")
    encoder, _ = load_encoder(folder / "encoder")
    try:
        card = json.loads((folder / CLASSIFIER / CARD).read_text())
        packed = (folder / CLASSIFIER / WEIGHTS).read_bytes()
        if hashlib.sha256(packed).hexdigest() != card["sha256"]:
            raise ValueError(f"{WEIGHTS} is not the file that {CARD} was written for")
        if card["encoder_sha256"] != _encoder_hash(folder):
            raise ValueError("the encoder beside it is another one; resume the run to write both")
        widths = [encoder.dim, *map(int, card["head_widths"])]
        head = first_layers(mlp([*widths, 1], output_norm=False), len(widths) - 1)
        classifier = Classifier(encoder, head, tuple(map(str, card["classes"])), zero_output=True)
        inner = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
        classifier.load_state_dict(inner | load(packed))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise RunError(f"{folder}: the classifier cannot be read ({error}); restore it from a copy") from error
    return classifier.eval()


def _encoder_hash(folder: Path) -> str:
    return str(json.loads((folder / "encoder" / CARD).read_text())["sha256"])
