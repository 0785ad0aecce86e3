"""Searching images by their class."""

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

from stillhouse.evaluation.retrieval import retrieve
from tests.evaluation.test_recognition import drawn


def test_a_line_of_images_by_hand() -> None:
    angles = torch.tensor([0.0, 0.1, 0.25, 0.5])
    found = retrieve(torch.stack([angles.cos(), angles.sin()], 1), torch.tensor([0, 1, 0, 1]))
    # right places: 2nd of 3; 3rd of 3; 2nd of 3 (0.1 is nearer than 0); 2nd of 3
    assert found.recall == pytest.approx((0.0, 1.0, 1.0))
    assert found.mean_average_precision == pytest.approx((1 / 2 + 1 / 3 + 1 / 2 + 1 / 2) / 4)
    assert found.precision_at_r == 0


def test_perfect_classes_are_found_and_single_images_do_not_count() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    found = retrieve(torch.eye(3)[labels], labels)
    assert found.images == 5
    assert found.recall == (1.0, 1.0, 1.0)
    assert (found.mean_average_precision, found.precision_at_r) == (1.0, 1.0)


def test_agrees_with_scikit_learn_and_with_a_loop() -> None:
    features, labels = drawn(300, 6), torch.arange(300) % 7
    cosines = F.normalize(features, dim=1) @ F.normalize(features, dim=1).mT
    average, at_r, first = [], [], []
    for image in range(300):
        others = torch.arange(300) != image
        right = (labels[others] == labels[image]).numpy()
        average.append(average_precision_score(right, cosines[image][others].numpy()))
        ranked = right[cosines[image][others].argsort(descending=True)]
        total = right.sum()
        at_r.append(sum(ranked[: place + 1].mean() for place in range(total) if ranked[place]) / total)
        first.append(ranked[:5].any())
    found = retrieve(features, labels)
    assert found.mean_average_precision == pytest.approx(sum(average) / 300, abs=1e-4)
    assert found.precision_at_r == pytest.approx(sum(at_r) / 300, abs=1e-4)
    assert found.recall[1] == pytest.approx(sum(first) / 300, abs=1e-4)
