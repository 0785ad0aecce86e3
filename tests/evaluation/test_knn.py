"""Weighted k-NN: closed forms, invariances, ties, a slow loop and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from stillhouse.evaluation import knn
from stillhouse.evaluation.knn import classify, nearest, vote


def clusters(count: int, dim: int, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_classes, (count,), generator=generator)
    centers = torch.randn(num_classes, dim, generator=torch.Generator().manual_seed(99))
    return centers[labels] + 1.5 * torch.randn(count, dim, generator=generator), labels


@pytest.mark.parametrize(
    ("temperature", "share", "winner"), [(0.07, 0.770960, 0), (0.1, 0.665241, 0), (1.0, 0.367165, 1)]
)
def test_vote_of_three_neighbours(temperature: float, share: float, winner: int) -> None:
    shares = vote(torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[0, 1, 1]]), temperature, 2)
    assert shares[0, 0].item() == pytest.approx(share, abs=1e-6)
    assert shares.argmax(1).item() == winner


def test_two_neighbours_weigh_as_the_exponential_of_their_difference() -> None:
    shares = vote(torch.tensor([[0.6, 0.35]]), torch.tensor([[0, 1]]), 0.1, 2)
    assert (shares[0, 0] / shares[0, 1]).item() == pytest.approx(np.exp(2.5), rel=1e-5)


def test_a_bank_recognizes_itself_and_orthonormal_prototypes_are_perfect() -> None:
    rows, labels = clusters(200, 8, 5, 0)
    assert torch.equal(classify(rows, rows, labels, k=1, temperature=0.07), labels)
    prototypes = torch.eye(6)
    asked = 3 * prototypes.repeat_interleave(4, 0) + 0.1
    answers = classify(asked, prototypes, torch.arange(6), k=3, temperature=0.07)
    assert torch.equal(answers, torch.arange(6).repeat_interleave(4))


def test_agrees_with_the_loop_over_all_pairs() -> None:
    bank, labels = clusters(90, 7, 4, 1)
    queries, _ = clusters(20, 7, 4, 2)
    for query, answer in zip(queries, classify(queries, bank, labels, k=11, temperature=0.2), strict=True):
        cosines = [float(query @ row / query.norm() / row.norm()) for row in bank]
        best = sorted(range(len(bank)), key=lambda place: -cosines[place])[:11]
        scores = [sum(np.exp(cosines[place] / 0.2) for place in best if labels[place] == kind) for kind in range(4)]
        assert int(np.argmax(scores)) == answer


@pytest.mark.parametrize("k", [1, 20, 200])
def test_agrees_with_scikit_learn(k: int) -> None:
    bank, labels = clusters(2000, 16, 10, 3)
    queries, truth = clusters(1000, 16, 10, 4)
    reference = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    expected = reference.fit(bank.numpy(), labels.numpy()).predict(queries.numpy())
    found = classify(queries, bank, labels, k=k, temperature=0.07)
    accuracies = [(torch.as_tensor(answer) == truth).double().mean().item() for answer in (found, expected)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=1e-3)
    assert accuracies[0] > 0.5


def test_does_not_depend_on_order_rotation_length_or_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, labels = clusters(300, 6, 4, 5)
    queries, _ = clusters(70, 6, 4, 6)
    answers = classify(queries, bank, labels, k=9, temperature=0.07)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(classify(queries, bank[order], labels[order], k=9, temperature=0.07), answers)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1))).Q
    assert torch.equal(classify(queries @ rotation, bank @ rotation, labels, k=9, temperature=0.07), answers)
    lengths = torch.rand(300, 1, generator=torch.Generator().manual_seed(2)) * 9 + 0.1
    assert torch.equal(classify(5 * queries, lengths * bank, labels, k=9, temperature=0.07), answers)
    whole = nearest(queries, bank, 9)
    monkeypatch.setattr(knn, "CHUNK_ELEMENTS", 300)
    monkeypatch.setattr(knn, "BANK_CHUNK", 37)
    for one, other in zip(whole, nearest(queries, bank, 9), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("bank_chunk", [4, 1000])
def test_of_equal_neighbours_the_lowest_index_wins(bank_chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "BANK_CHUNK", bank_chunk)
    bank = torch.eye(3)[[1, 0, 2, 0, 0, 1, 0, 0, 1, 0]]
    queries = torch.eye(3)
    cosines, indices = nearest(queries, bank, 4)
    assert indices.tolist() == [[1, 3, 4, 6], [0, 5, 8, 1], [2, 0, 1, 3]]
    assert cosines[1].tolist() == [1.0, 1.0, 1.0, 0.0]


def test_leaving_oneself_out() -> None:
    bank, labels = clusters(60, 5, 3, 7)
    own = torch.arange(60)
    _, indices = nearest(bank, bank, 60, own)
    assert indices.shape == (60, 59)
    assert not (indices == own[:, None]).any()
    expected = torch.stack([
        classify(bank[i : i + 1], bank[own != i], labels[own != i], k=5, temperature=0.07)[0] for i in range(60)
    ])  # fmt: skip
    assert torch.equal(classify(bank, bank, labels, k=5, temperature=0.07, exclude=own), expected)


def test_a_bank_smaller_than_k_votes_as_a_whole_and_one_class_is_always_right() -> None:
    bank, labels = torch.eye(3), torch.tensor([0, 1, 1])
    assert nearest(bank, bank, 20)[1].shape == (3, 3)
    assert torch.equal(classify(bank, bank, labels, k=20, temperature=0.07), labels)
    assert not classify(bank, bank, torch.zeros(3, dtype=torch.int64), k=20, temperature=0.07).any()
    assert classify(bank[:0], bank, labels, k=2, temperature=0.07).shape == (0,)


def test_all_equal_vectors_fall_back_to_the_first_of_the_bank() -> None:
    bank = torch.ones(50, 4)
    labels = torch.tensor([1] * 6 + [0] * 44)
    assert classify(torch.ones(2, 4), bank, labels, k=7, temperature=0.07).tolist() == [1, 1]
