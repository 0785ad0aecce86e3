"""Traits at values counted by hand."""

import math

import pytest
import torch

from stillhouse.edge.learning.measures import share, traits

BEFORE = torch.tensor([0, 0, 1, 1, 2])
TEACHER = torch.tensor([0, 1, 1, 2, 0])
LABELS = torch.tensor([0, 1, 1, 1, 0])


def test_a_copy_of_the_teacher_attends_and_the_old_core_retains() -> None:
    copied, kept = traits(BEFORE, TEACHER, TEACHER, LABELS), traits(BEFORE, BEFORE, TEACHER, LABELS)
    assert (copied.attend, copied.retain) == (1.0, 0.0)
    assert (kept.attend, kept.retain) == (0.0, 1.0)


def test_counts_by_hand() -> None:
    found = traits(BEFORE, torch.tensor([0, 1, 1, 1, 1]), TEACHER, LABELS)  # they disagree on 1, 3 and 4
    assert found.attend == pytest.approx(1 / 3)
    assert found.retain == pytest.approx(1 / 3)
    assert found.useful_attend == pytest.approx(1 / 2)  # 1 and 4, of which 1 is right now
    assert found.useful_retain == pytest.approx(1.0)  # 3
    assert found.attend + found.retain <= 1


def test_without_disagreement_nothing_is_known() -> None:
    assert all(math.isnan(value) for value in traits(BEFORE, BEFORE, BEFORE, LABELS).table().values())
    assert math.isnan(share(LABELS > 0, LABELS > 5))
