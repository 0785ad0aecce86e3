"""What else is measured of an encoder, beside accuracies: each protocol gives plain values for `evaluation.json`.

Letters: N images, q views of each, D width, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stillhouse.data.store import ImageStore
from stillhouse.evaluation.alignment import alignment_views, views_of
from stillhouse.evaluation.config import EvaluationConfig, ProtocolName
from stillhouse.evaluation.features import forward
from stillhouse.evaluation.knn import classify
from stillhouse.evaluation.likeness import layer_likeness
from stillhouse.evaluation.retrieval import retrieve
from stillhouse.evaluation.spectrum import alpha_req, lidar, rankme
from stillhouse.evaluation.split import thin
from stillhouse.networks.encoder import Encoder

LIKENED, SEARCHED, RANKED = 2_048, 5_000, 25_600
"""Images at most that CKA compares, that retrieval searches, and whose spectrum is taken."""
LIDAR_VIEWS = 10

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Material:
    """An encoder and what it said of the images."""

    encoder: Encoder
    test: ImageStore
    config: EvaluationConfig
    asked: tuple[Tensor, ...]
    """Vectors of the test images after every block, `[N, D]` each."""
    truth: Tensor
    """Their classes, int64 `[N]`; `[0]` without labels, as all that follows."""
    known: tuple[Tensor, ...]
    """Vectors of the training images after every block."""
    labels: Tensor
    """Classes of the training images."""
    classes: tuple[str, ...]
    block: int
    """Counted from 1, the one that held-out training images choose; 0 without labels."""


@dataclass(frozen=True)
class Protocol:
    """One measurement; a new version means that numbers are not comparable with those of the old."""

    version: int
    needs_labels: bool
    measure: Callable[[Material], Values]


def confusion(material: Material) -> Values:
    """Counts of what k-NN says at the block that held-out images choose: a row for each true class."""
    place, config = material.block - 1, material.config
    answers = classify(
        material.asked[place], material.known[place], material.labels, k=config.k, temperature=config.temperature
    )
    count = len(material.classes)
    counts = torch.bincount(material.truth * count + answers, minlength=count**2).view(count, count)
    return {"block": material.block, "k": config.k, "classes": material.classes, "counts": counts.tolist()}


def spectrum(material: Material) -> Values:
    """RankMe and alpha-ReQ of every block, LiDAR of the last one where there are more images than it is wide."""
    taken = [thin(block, RANKED) for block in material.asked]
    laws = [alpha_req(block) for block in taken]
    found: Values = {
        "images": len(taken[0]),
        "rankme": [rankme(block) for block in taken],
        "alpha": [law.alpha for law in laws],
        "alpha_fit": [law.fit for law in laws],
    }
    images = min(max(1_000, 2 * material.encoder.dim), len(material.test))
    if images <= material.encoder.dim:
        return found
    return found | {"lidar": lidar(_views(material, images)), "lidar_images": images, "lidar_views": LIDAR_VIEWS}


def _views(material: Material, images: int) -> Tensor:
    """Vectors of several views of each image, `[N, q, D]`."""
    size = material.encoder.image_size
    plan = alignment_views(size)
    plan = replace(plan, views=(replace(plan.views[0], count=LIDAR_VIEWS),))
    batches = views_of(material.test, plan, size, images=images, seed=material.config.seed)
    read = [torch.stack([blocks[-1] for blocks in forward(material.encoder, views)], 1) for views in batches]
    return torch.cat(read)


def cka(material: Material) -> Values:
    """Likeness of every block with every other."""
    taken = [thin(block, LIKENED) for block in material.asked]
    return {"images": len(taken[0]), "blocks": layer_likeness(taken).tolist()}


def retrieval(material: Material) -> Values:
    """Search among the test images, by the last block and by the one that held-out images choose."""
    truth = thin(material.truth, SEARCHED)
    blocks = dict.fromkeys((material.block, len(material.asked)))
    return {
        "blocks": [
            {"block": block, **asdict(retrieve(thin(material.asked[block - 1], SEARCHED), truth))} for block in blocks
        ]
    }


PROTOCOLS: Mapping[ProtocolName, Protocol] = {
    "confusion": Protocol(1, True, confusion),
    "spectrum": Protocol(1, False, spectrum),
    "cka": Protocol(1, False, cka),
    "retrieval": Protocol(1, True, retrieval),
}


def measure(material: Material) -> dict[str, Values]:
    """All protocols that the settings ask for; those that need labels are left out without."""
    asked = {name: PROTOCOLS[name] for name in material.config.protocols}
    return {
        name: {"version": protocol.version, **protocol.measure(material)}
        for name, protocol in asked.items()
        if material.block or not protocol.needs_labels
    }
