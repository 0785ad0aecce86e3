"""Factors by staleness at values worked out by hand."""

import pytest

from stillhouse.edge.learning.weights import DECAYS, constant, growth, hinge, polynomial


def test_a_fresh_clone_counts_in_full() -> None:
    assert [decay(0) for decay in DECAYS.values()] == [1.0, 1.0, 1.0]
    assert growth(0) == 1.0


def test_values_by_hand() -> None:
    assert polynomial(3) == 0.5
    assert polynomial(7, 1.0) == 0.125
    assert hinge(4) == 1.0
    assert hinge(5) == pytest.approx(1 / 11)
    assert constant(100) == 1.0
    assert growth(3) == 2.0
    assert growth(1) == pytest.approx(2**0.5)


def test_growth_is_capped() -> None:
    assert growth(1000) == 2.0
    assert growth(8, limit=5.0) == 3.0
