"""Oracles of the schedules."""

import pytest

from stillhouse.schedules import cosine, warmup_cosine


def test_ratio_and_momentum_of_sdssl() -> None:
    ratio, momentum = cosine(0.0, 0.8), cosine(0.996, 1.0)
    assert ratio(0) == 0
    assert ratio(0.25) == pytest.approx(0.146447 * 0.8, rel=1e-5)
    assert ratio(0.5) == pytest.approx(0.4)
    assert ratio(1) == pytest.approx(0.8)
    assert [momentum(progress) for progress in (0, 0.5, 1)] == pytest.approx([0.996, 0.998, 1.0])


def test_learning_rate_rises_from_nothing_to_its_peak_and_falls_to_nothing() -> None:
    rate = warmup_cosine(2.0, 0.1)
    assert rate(0) == 0
    assert rate(0.05) == pytest.approx(1.0)
    assert rate(0.1) == pytest.approx(2.0)
    assert rate(0.55) == pytest.approx(1.0)
    assert rate(0.9999) == pytest.approx(0, abs=1e-6)
    assert warmup_cosine(2.0, 0.0)(0) == 2.0
