"""Clusters: those that are there are found, and compared with labels only where there are any."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillhouse.data.store import DataConfig
from stillhouse.embeddings.clusters import agreement, cluster_images
from stillhouse.embeddings.reader import Reader
from stillhouse.errors import SettingsError


@pytest.fixture
def three_colors(tmp_path: Path) -> Path:
    """Noise on red, green and blue: 12, 9 and 6 pictures."""
    generator = np.random.default_rng(0)
    for channel, (name, count) in enumerate((("red", 12), ("green", 9), ("blue", 6))):
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = generator.integers(0, 30, (16, 16, 3), dtype=np.uint8)
            pixels[..., channel] += 200
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("clusters", [3, 0])
def test_clusters_that_are_there_are_found(reader: Reader, three_colors: Path, clusters: int) -> None:
    found = cluster_images(reader, reader.open(str(three_colors)), clusters, seed=1)
    assert found.sizes == (12, 9, 6)
    assert {(member.cluster, member.label) for member in found.members} == {(1, "red"), (2, "green"), (3, "blue")}
    assert found.silhouette > 0.5
    assert found.agreement is not None
    assert found.agreement.purity == found.agreement.ari == pytest.approx(1)
    assert sorted(found.tried) == ([] if clusters else [2, 3, 4, 5])
    central = found.central(2)
    assert len(central) == 8
    assert [m.cosine for m in central] == sorted((m.cosine for m in found.members if m.cluster == 2), reverse=True)[:8]


def test_the_same_seed_gives_the_same_clusters(reader: Reader, pictures: Path) -> None:
    store = reader.open(str(pictures))
    assert cluster_images(reader, store, 4, seed=3) == cluster_images(reader, store, 4, seed=3)


def test_without_labels_nothing_is_said_of_agreement(reader: Reader, three_colors: Path) -> None:
    hidden = reader.open(str(three_colors), DataConfig(labels=False))
    assert cluster_images(reader, hidden, 3).agreement is None


def test_as_many_clusters_as_images(reader: Reader, three_colors: Path) -> None:
    found = cluster_images(reader, reader.open(str(three_colors)), 27)
    assert len(found.sizes) == 27
    assert math.isnan(found.silhouette)


@pytest.mark.parametrize("clusters", [1, -2, 25])
def test_numbers_that_cannot_be_are_refused(reader: Reader, pictures: Path, clusters: int) -> None:
    with pytest.raises(SettingsError, match=f"--clusters {clusters}: "):
        cluster_images(reader, reader.open(str(pictures)), clusters)


def test_agreement_of_a_small_table() -> None:
    """Purity by hand: 3 of 4 in the one cluster and 1 of 2 in the other; the image without a label does not count."""
    found = agreement(np.array([0, 0, 0, 0, 1, 1, 1]), np.array([5, 5, 5, 2, 2, 5, -1]))
    assert found is not None
    assert found.images == 6
    assert found.purity == pytest.approx(4 / 6)
    perfect = agreement(np.array([1, 1, 0]), np.array([0, 0, 7]))
    assert perfect is not None
    assert perfect.nmi == perfect.ari == pytest.approx(1)
    assert agreement(np.array([0, 1]), np.array([-1, -1])) is None
