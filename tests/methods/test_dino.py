"""DINO's center, frozen prototypes and views."""

import pytest
import torch

from stillhouse.data.stream import Batch
from stillhouse.methods.dino import DINO
from stillhouse.networks.center import Center
from stillhouse.networks.heads import PrototypeHead
from stillhouse.schedules import rise
from tests.methods.conftest import MakeMethod


def crops(method: DINO, images: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    sizes = method.views.sizes(16)
    return Batch(tuple(torch.rand(images, 3, s, s, generator=generator) for s in sizes), torch.arange(images))


def made(make_method: MakeMethod, encoder: str = "vit_nano") -> DINO:
    method = make_method("dino", encoder)
    assert isinstance(method, DINO)
    return method


def test_center_waits_for_the_step_and_follows_a_geometric_series() -> None:
    center = Center(3, 0.9)
    rows = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    for step in range(1, 6):
        before = center.value.clone()
        center.add(rows)
        assert torch.equal(center.value, before)
        center.advance()
        torch.testing.assert_close(center.value, 2 * torch.ones(3) * (1 - 0.9**step))
    center.advance()
    torch.testing.assert_close(center.value, 2 * torch.ones(3) * (1 - 0.9**5))


def test_center_weighs_every_added_row_alike() -> None:
    center = Center(1, 0.0)
    center.add(torch.tensor([[1.0]]))
    center.add(torch.tensor([[4.0], [4.0]]))
    center.advance()
    assert center.value.item() == pytest.approx(3.0)


def test_the_center_is_of_both_large_views_and_the_old_one_is_used(make_method: MakeMethod) -> None:
    method = made(make_method)
    batch = crops(method)
    first = method(batch, 0.5)["views"]
    scores = method.teacher(torch.cat(batch.views[:2]))
    assert method(batch, 0.5)["views"].item() == first.item()
    method.center.advance()
    torch.testing.assert_close(method.center.value, 0.1 * scores.mean(0))
    assert method(batch, 0.5)["views"].item() != first.item()


@pytest.mark.parametrize("encoder", ["vit_nano", "resnet10"])
def test_views_of_two_sizes_are_scored_in_their_order(encoder: str, make_method: MakeMethod) -> None:
    method = made(make_method, encoder).eval()
    batch = crops(method)
    assert [view.shape[-1] for view in batch.views] == [16, 16] + [8] * 6
    assert method.num_large == 2
    scores = method._scores(batch.views, learn=True)
    for view, found in zip(batch.views, scores, strict=True):
        torch.testing.assert_close(found, method.student(view))


def test_prototypes_rest_at_first(make_method: MakeMethod) -> None:
    for progress, learns in ((0.0, False), (0.5, True)):
        method = made(make_method)
        method(crops(method), progress)["views"].backward()
        head = method.student.projector
        assert isinstance(head, PrototypeHead)
        assert head.directions.grad is not None
        assert bool(head.directions.grad.any()) == learns
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.perceptron.parameters())


def test_scores_are_cosines_times_lengths() -> None:
    head = PrototypeHead([4, 8, 6], 5, learn_norm=True)
    rows = torch.randn(3, 4)
    with torch.no_grad():
        inner = head.perceptron(rows)
        cosines = torch.nn.functional.cosine_similarity(inner[:, None], head.directions[None], dim=2)
        torch.testing.assert_close(head(rows), cosines)
        head.directions.mul_(7.0)
        head.lengths.mul_(2.0)
        torch.testing.assert_close(head(rows), 2 * cosines)


def test_a_rise_and_then_a_plateau() -> None:
    temperature = rise(0.04, 0.07, 0.1)
    assert [round(temperature(progress), 4) for progress in (0.0, 0.05, 0.1, 1.0)] == [0.04, 0.055, 0.07, 0.07]
    assert rise(0.04, 0.07, 0.0)(0.0) == 0.07
