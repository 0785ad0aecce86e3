"""An encoder on disk: weights as safetensors, and a card that says how to build the network around them."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from stillhouse.errors import RunError
from stillhouse.files import write_atomically
from stillhouse.networks.build import EncoderConfig, build_encoder
from stillhouse.networks.encoder import Encoder

WEIGHTS, CARD = "model.safetensors", "card.json"


def save_encoder(folder: Path, encoder: Encoder, config: EncoderConfig, card: dict[str, Any]) -> None:
    """Write weights and card into `folder`; heads and teachers stay behind.

    Args:
        folder: made if missing.
        encoder: the network.
        config: how it was built.
        card: anything else worth knowing, as plain values.

    Raises:
        RunError: the disk refuses.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    packed = save(weights, {"format": "pt"})
    write_atomically(folder / WEIGHTS, packed)
    content = {
        "encoder": dataclasses.asdict(config),
        "dim": encoder.dim,
        "block_dims": list(encoder.block_dims),
        "sha256": hashlib.sha256(packed).hexdigest(),
        **card,
    }
    write_atomically(folder / CARD, json.dumps(content, indent=2) + "\n")


def load_encoder(folder: Path) -> tuple[Encoder, EncoderConfig]:
    """The encoder that `save_encoder` wrote, in evaluation mode, and how it is built.

    Raises:
        RunError: a file is missing or damaged, or the two do not belong together.
    """
    try:
        card = json.loads((folder / CARD).read_text())
        config = TypeAdapter(EncoderConfig).validate_python(card["encoder"])
        encoder = build_encoder(config)
        packed = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(packed).hexdigest() != card.get("sha256"):
            raise ValueError(f"{WEIGHTS} is not the file that {CARD} was written for")
        encoder.load_state_dict(load(packed))
    except FileNotFoundError as error:
        raise RunError(f"{error.filename}: no encoder found; check the path") from error
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError, ValidationError) as error:
        raise RunError(f"{folder}: the encoder cannot be read ({error}); restore it from a copy") from error
    return encoder.eval(), config
