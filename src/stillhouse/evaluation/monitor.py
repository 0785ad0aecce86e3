"""Looks at an encoder while it trains: k-NN with labels, a verdict without.

Letters: N images.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from stillhouse.data.random import permutation
from stillhouse.data.store import ImageStore
from stillhouse.errors import DataError
from stillhouse.evaluation.alignment import alignment_views, pairs_of, read
from stillhouse.evaluation.baselines import Pixels
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.features import LayerFeatures, extract
from stillhouse.evaluation.knn import classify
from stillhouse.evaluation.recognition import recognition
from stillhouse.evaluation.verdict import PIXELS, judge
from stillhouse.health import examine
from stillhouse.networks.encoder import Encoder, device_of

QUERY_SHARE = 0.2
HEALTH_IMAGES = 512
RECOGNISED_IMAGES = 128
"""Of which two views are compared; few, since every look costs twice as many."""


class Look(Protocol):
    """The part of a moment of training that is looked at."""

    @property
    def encoder(self) -> Encoder:
        """The network as it is now."""


class Monitor:
    """k-NN accuracy of every block on a small part of the training set, the same at every look.

    Bank and queries are disjoint, seeded, and of labelled images only. No test image is seen, so the best checkpoint
    may be chosen by it.

    Args:
        store: training images.
        config: sizes, k, temperature and seed.

    Raises:
        DataError: fewer than two images have a label (ask `can_watch` first).
    """

    def __init__(self, store: ImageStore, config: EvaluationConfig) -> None:
        order = permutation(config.seed, 0, len(store))
        labelled = order[store.labels.cpu()[order] >= 0]
        if len(labelled) < 2:
            raise DataError(
                f"training images: {len(labelled)} have a label, so k-NN cannot be measured; set evaluation.every=0"
            )
        num_queries = min(config.query_size, max(1, int(QUERY_SHARE * len(labelled))))
        self.store, self.config = store, config
        self.queries, self.bank = labelled[:num_queries], labelled[num_queries : num_queries + config.bank_size]

    @staticmethod
    def can_watch(store: ImageStore) -> bool:
        """Whether the store has labels of two classes at least, so that an accuracy says something."""
        return len(torch.unique(store.labels[store.labels >= 0])) > 1

    def look(self, moment: Look) -> Mapping[str, Any]:
        """A record for the log; `score` is the accuracy of the last block, the one that is kept."""
        accuracies = self.accuracies(moment.encoder)
        return {
            "kind": "knn",
            "blocks": list(accuracies),
            "k": self.config.k,
            "temperature": self.config.temperature,
            "bank": len(self.bank),
            "queries": len(self.queries),
            "score": accuracies[-1],
        }

    def accuracies(self, encoder: Encoder) -> tuple[float, ...]:
        """Accuracy of every block in [0, 1]; the encoder is left as it was found."""
        bank, queries = self._read(encoder, self.bank), self._read(encoder, self.queries)
        found = []
        for known, asked in zip(bank.blocks, queries.blocks, strict=True):
            answers = classify(asked, known, bank.labels, k=self.config.k, temperature=self.config.temperature)
            found.append((answers == queries.labels).double().mean().item())
        return tuple(found)

    def _read(self, encoder: Encoder, rows: Tensor) -> LayerFeatures:
        return extract(encoder, self.store, rows, batch_size=self.config.batch_size, bf16=self.config.bf16)


class HealthMonitor:
    """A verdict without labels on the encoder's image vectors, on a few training images, the same at every look.

    Args:
        store: training images.
        config: seed and batch size.
    """

    def __init__(self, store: ImageStore, config: EvaluationConfig) -> None:
        self.store, self.config = store, config
        self.rows = permutation(config.seed, 0, len(store))[:HEALTH_IMAGES]
        self.baselines: dict[str, Tensor] = {}

    def look(self, moment: Look) -> Mapping[str, Any]:
        """A record for the log."""
        encoder = moment.encoder
        features = extract(encoder, self.store, self.rows, batch_size=self.config.batch_size, bf16=self.config.bf16)
        health = examine(features.blocks[-1])
        if not self.baselines:
            self.baselines[PIXELS] = self._recognised(Pixels(encoder.image_size).to(device_of(encoder)))
        verdict = judge(health, self._recognised(encoder), self.baselines)
        return {
            "kind": "health",
            "spread": health.spread,
            "effective_rank": health.effective_rank,
            "dim": health.dim,
            "recognition": verdict.score,
            "sentence": verdict.sentence,
        }

    def _recognised(self, encoder: Encoder) -> Tensor:
        """Of each of a few images, in `[0, 1]` on average; none where there are fewer than two."""
        size, count = encoder.image_size, min(RECOGNISED_IMAGES, len(self.store))
        if count < 2:
            return torch.empty(0)
        pairs = pairs_of(self.store, alignment_views(size), size, images=count, seed=self.config.seed)
        first, second = read(encoder, pairs)
        return recognition(first[-1], second[-1])
