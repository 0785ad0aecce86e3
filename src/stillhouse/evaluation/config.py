"""Settings of the evaluation, shared by the monitor during training and the report at its end."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic import AfterValidator

from stillhouse.data.labels import parse_count
from stillhouse.errors import SettingsError


def _checked(text: str) -> str:
    try:
        parse_count(text, 0, 1)
    except SettingsError as error:
        raise ValueError(str(error)) from error
    return text


ProtocolName = Literal["confusion", "spectrum", "cka", "retrieval"]
Count = Annotated[str, AfterValidator(_checked)]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Settings of `evaluate` and of `Monitor`."""

    every: Annotated[int, Ge(0)] = 10
    """Epochs between two k-NN measurements during training; 0 for none."""
    bank_size: Annotated[int, Gt(0)] = 10_000
    """Labelled images that the k-NN of the monitor searches; fewer are taken where there are fewer."""
    query_size: Annotated[int, Gt(0)] = 2_000
    """Labelled images that the k-NN of the monitor classifies, never among the searched ones."""
    k: Annotated[int, Gt(0)] = 20
    """Neighbours that vote."""
    temperature: Annotated[float, Ge(0.001)] = 0.07
    """Of the votes: a neighbour of cosine s weighs exp(s / temperature)."""
    linear: bool = True
    """Whether to train linear probes, too."""
    linear_protocol: Literal["lbfgs", "sgd", "ridge"] = "lbfgs"
    """Logistic regression to the optimum, by 100 epochs of SGD, or least squares in closed form."""
    standardize: bool = False
    """Whether each feature is divided by its own deviation before the linear probe, or all by one number."""
    few_labels: tuple[Count, ...] = ()
    """Also fit linear probes to so many labels, balanced by class: shares such as `1%`, or counts such as `250`
    and `5 per class`."""
    label_noise: tuple[Annotated[float, Interval(gt=0, lt=1)], ...] = ()
    """Also fit linear probes to labels of which such a share is wrong: replaced by another class at random."""
    pixels: bool = True
    """Whether raw pixels are judged as well."""
    untrained: bool = True
    """Whether an encoder that never learnt is judged as well."""
    alignment_images: Annotated[int, Ge(0)] = 1_000
    """Images whose two views measure alignment; 0 for none."""
    correspondence_images: Annotated[int, Ge(0)] = 0
    """Images whose regions are to find their places in a changed copy; 0 for none."""
    last_blocks: Annotated[int, Ge(0)] = 0
    """How many of the last blocks are judged joined into one vector as well, as is usual for multi-stage networks; 0
    for none."""
    protocols: tuple[ProtocolName, ...] = ("confusion",)
    """What else is measured of the encoder."""
    atlas_images: Annotated[int, Ge(0)] = 1_000
    """Test images that `atlas.npz` keeps small, maps and finds neighbours among, for the page; 0 for none."""
    batch_size: Annotated[int, Gt(0)] = 512
    """Images per forward pass."""
    bf16: bool = False
    """Whether the forward pass runs in bf16; what follows is in float32 or better."""
    seed: Annotated[int, Interval(ge=0, lt=2**63)] = 0
    """Of every split, every drawn image and every wrong label."""
