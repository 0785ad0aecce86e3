"""Heads, gradient scaling, momentum teachers."""

import pytest
import torch
from torch import nn

from stillhouse.networks.heads import head_width, mlp, scale_gradient
from stillhouse.networks.teacher import MomentumTeacher


def test_layers_of_a_head() -> None:
    kinds = [type(layer).__name__ for layer in mlp([8, 16, 16, 4], output_norm=True)]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    head = mlp([8, 16, 4], output_norm=False)
    assert isinstance(head[-1], nn.Linear)
    assert all(layer.bias is None for layer in head if isinstance(layer, nn.Linear))
    out = mlp([8, 4], output_norm=True)(torch.randn(64, 8))
    torch.testing.assert_close(out.mean(0), torch.zeros(4), atol=1e-5, rtol=0)


def test_published_parameter_counts_of_the_heads() -> None:
    """All student heads of the published SDSSL with predictors: 100.2, 105.3 and 115.5 million."""
    for dim, millions in ((192, 100.2), (384, 105.3), (768, 115.5)):
        final = mlp([dim, 4096, 4096, 256], output_norm=True)
        lower = mlp([dim, 2048, 2048, 256], output_norm=True)
        predictor = mlp([256, 4096, 256], output_norm=True)
        count = sum(
            w * sum(p.numel() for p in head.parameters()) for w, head in ((1, final), (11, lower), (12, predictor))
        )
        assert count / 1e6 == pytest.approx(millions, abs=0.1)


def test_head_width_follows_the_encoder_up_to_the_published_width() -> None:
    assert [head_width(dim) for dim in (64, 96, 192, 384, 768, 2048)] == [512, 512, 1024, 2048, 4096, 4096]


def test_scaled_gradient() -> None:
    rows = torch.randn(3, requires_grad=True)
    scaled = scale_gradient(rows, 0.25)
    assert torch.equal(scaled, rows)
    scaled.sum().backward()
    torch.testing.assert_close(rows.grad, torch.full((3,), 0.25))


def test_teacher_follows_by_the_closed_form_and_keeps_its_own_buffers() -> None:
    student = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).double()
    teacher = MomentumTeacher(student)
    start = [p.clone() for p in teacher.module.parameters()]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    student(torch.randn(8, 4, dtype=torch.float64))
    for _ in range(5):
        teacher.follow(student, 0.9)
    for now, then, goal in zip(teacher.module.parameters(), start, student.parameters(), strict=True):
        torch.testing.assert_close(now, goal + 0.9**5 * (then - goal))
        assert not now.requires_grad
    assert teacher.module[1].num_batches_tracked == 0
    assert not teacher(torch.randn(8, 4, dtype=torch.float64)).requires_grad


def test_a_momentum_teacher_drops_nothing() -> None:
    student = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    rows = torch.rand(8, 4)
    assert torch.equal(MomentumTeacher(student).train()(rows), student[0](rows))
    assert student[1].p == 0.5
