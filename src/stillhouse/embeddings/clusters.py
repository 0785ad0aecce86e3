"""Images sorted into groups by k-means on unit vectors.

Letters: N images, K clusters, D width.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.metrics.cluster import contingency_matrix
from torch.nn import functional as F

from stillhouse.data.store import ImageStore
from stillhouse.embeddings.reader import Reader, label_names, text
from stillhouse.errors import DataError, SettingsError
from stillhouse.evaluation.features import Share

FEW_IMAGES = 20_000
"""Up to this many all are used in every step of k-means; beyond, small batches."""
STARTS = 3
JUDGED = 2_000
"""Images of the sample on which the silhouette is measured."""
TRIED = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
"""Numbers of clusters among which `auto` chooses."""
SHOWN = 8

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Member:
    """One image in its cluster."""

    row: int
    id: str
    label: str | None
    cluster: int
    """Number of the cluster, from 1; the largest is the first."""
    cosine: float
    """To the cluster's centre."""


@dataclass(frozen=True)
class Agreement:
    """How clusters agree with labels, over labelled images; all three are 1 when both say the same."""

    images: int
    purity: float
    """Share of images whose label is the most frequent of their cluster; grows with K."""
    nmi: float
    """Normalized mutual information (arithmetic mean)."""
    ari: float
    """Rand index adjusted for chance; 0 for clusters that do not care for labels."""


@dataclass(frozen=True)
class Clusters:
    """What k-means found."""

    members: tuple[Member, ...]
    """All images in the order of the collection."""
    sizes: tuple[int, ...]
    """Images of each cluster, falling."""
    silhouette: float
    """Mean over a sample, in [-1, 1]; cosine distance."""
    tried: dict[int, float]
    """Silhouette by number of clusters, where the number was to be found."""
    agreement: Agreement | None
    """None without labels."""

    def central(self, cluster: int, count: int = SHOWN) -> list[Member]:
        """The members nearest to the centre of a cluster, nearest first; of equals the first of the collection."""
        own = (member for member in self.members if member.cluster == cluster)
        return sorted(own, key=lambda member: (-member.cosine, member.row))[:count]


def cluster_images(
    reader: Reader,
    store: ImageStore,
    clusters: int = 0,
    *,
    seed: int = 0,
    progress: Share = lambda share: None,
) -> Clusters:
    """Sort the images of a store into clusters.

    Args:
        reader: encoder and exit.
        store: the images.
        clusters: K; 0 takes the number of the highest silhouette among a few.
        seed: of the first centres and of the sample.
        progress: told the share done of reading the images.

    Raises:
        SettingsError: fewer than two clusters, or more than images.
        DataError: too few images.
        TrainingError: the encoder gives a value that is not finite.
    """
    if clusters < 0 or clusters == 1:
        raise SettingsError(f"--clusters {clusters}: nothing would be told apart; ask for 2 or more, or for auto")
    if clusters > len(store):
        raise SettingsError(f"--clusters {clusters}: more than the {len(store)} images; ask for fewer")
    if len(store) < 3:
        raise DataError(f"data: too few images to be sorted, {len(store)}; name 3 or more")
    vectors, kept = reader.vectors(store, progress)
    unit: Matrix = F.normalize(vectors.float(), dim=1).cpu().numpy()
    sample = np.random.default_rng(seed).permutation(len(unit))[:JUDGED]
    tried: dict[int, float] = {}
    if not clusters:
        for number in (number for number in TRIED if number <= math.isqrt(len(unit)) or number == 2):
            tried[number] = _silhouette(unit[sample], k_means(unit, number, seed)[0][sample])
        clusters = max(tried, key=lambda number: (tried[number], -number))
    found, centres = k_means(unit, clusters, seed)
    order = np.argsort(-np.bincount(found, minlength=clusters), kind="stable")
    place = np.argsort(order)[found]
    cosines = np.einsum("nd,nd->n", unit, (centres / np.linalg.norm(centres, axis=1, keepdims=True).clip(1e-12))[found])
    known = zip(
        kept.tolist(), (text(store.ids[row]) for row in kept.tolist()), label_names(store, kept),
        (place + 1).tolist(), cosines.tolist(), strict=True,
    )  # fmt: skip
    return Clusters(
        members=tuple(Member(*each) for each in known),
        sizes=tuple(np.bincount(place, minlength=clusters).tolist()),
        silhouette=_silhouette(unit[sample], found[sample]),
        tried=tried,
        agreement=agreement(place, store.labels.cpu()[kept].numpy()),
    )


def k_means(unit: Matrix, clusters: int, seed: int) -> tuple[NDArray[np.int64], Matrix]:
    """Cluster of each row `[N]` and centres `[K, D]`; a cluster is empty where rows differ in fewer places than K."""
    shared: dict[str, Any] = {"n_clusters": clusters, "random_state": seed, "n_init": STARTS}
    model = KMeans(**shared) if len(unit) <= FEW_IMAGES else MiniBatchKMeans(**shared, batch_size=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal images: fewer clusters than asked for
        found = model.fit_predict(unit)
    return found.astype(np.int64), model.cluster_centers_


def agreement(clusters: NDArray[np.int64], labels: NDArray[np.int64]) -> Agreement | None:
    """Purity, NMI and ARI over rows whose label is 0 or more; None when there is none."""
    known = labels >= 0
    if not known.any():
        return None
    truth, found = labels[known], clusters[known]
    purity = contingency_matrix(truth, found).max(axis=0).sum() / len(truth)
    nmi, ari = normalized_mutual_info_score(truth, found), adjusted_rand_score(truth, found)
    return Agreement(len(truth), float(purity), float(nmi), float(ari))


def _silhouette(unit: Matrix, clusters: NDArray[np.int64]) -> float:
    """Mean silhouette by cosine distance; not a number where the sample has one cluster, or one image for each."""
    if not 1 < len(np.unique(clusters)) < len(unit):
        return float("nan")
    return float(silhouette_score(unit, clusters, metric="cosine"))
