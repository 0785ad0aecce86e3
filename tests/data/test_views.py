"""Settings of views: the published values, the sizes that follow, and what is refused."""

import dataclasses

import pytest
from pydantic import TypeAdapter, ValidationError

from stillhouse.data import views
from stillhouse.data.views import View, ViewPlan

PLANS = {name: plan for name, plan in vars(views).items() if isinstance(plan, ViewPlan) and plan.views}


def test_numbers_and_sizes_of_views() -> None:
    assert {name: plan.num_views for name, plan in PLANS.items()} == {
        "PAIR": 2,
        "CIFAR_PAIR": 2,
        "ASYMMETRIC_PAIR": 2,
        "CIFAR_ASYMMETRIC_PAIR": 2,
        "FOUR": 4,
        "CIFAR_FOUR": 4,
        "MULTI_CROP": 10,
        "SMALL_MULTI_CROP": 8,
        "WEAK": 1,
        "CROP_AND_FLIP": 1,
        "SINGLE": 1,
        "CIFAR_SINGLE": 1,
    }
    assert views.SMALL_MULTI_CROP.sizes(32) == (32, 32, *[16] * 6)
    assert views.MULTI_CROP.sizes(224) == (224, 224, *[96] * 8)
    assert views.MULTI_CROP.sizes(32) == (32, 32, *[16] * 8)
    assert views.PAIR.sizes(30) == (30, 30)


def test_published_tables() -> None:
    """BYOL's table (official code): blur 1.0 and 0.1, solarize 0 and 0.2, jitter .4 .4 .2 .1; DINO's crop areas."""
    first, second = views.ASYMMETRIC_PAIR.views
    assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)
    for view in (*views.ASYMMETRIC_PAIR.views, *views.MULTI_CROP.views):
        assert (view.brightness, view.contrast, view.saturation, view.hue) == (0.4, 0.4, 0.2, 0.1)
        assert (view.jitter, view.grayscale, view.flip) == (0.8, 0.2, 0.5)
    assert [(v.min_area, v.max_area, v.blur, v.solarize) for v in views.MULTI_CROP.views] == [
        (0.4, 1.0, 1.0, 0.0),
        (0.4, 1.0, 0.1, 0.2),
        (0.05, 0.4, 0.5, 0.0),
    ]
    assert [(v.min_area, v.blur, v.solarize) for v in views.CIFAR_ASYMMETRIC_PAIR.views] == [(0.2, 0, 0), (0.2, 0, 0.2)]


def test_blur_kernel_follows_the_view() -> None:
    """SimCLR's tenth of the side, made odd: 23 pixels at 224."""
    assert [View().kernel(size) for size in (224, 96, 64, 32, 8)] == [23, 9, 7, 3, 3]
    assert View(blur_kernel=9).kernel(32) == 9
    assert View(blur_kernel=99).kernel(8) == 15
    assert View(size_fraction=96 / 224).kernel(224) == 9


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"min_area": 0.5, "max_area": 0.4}, "min_area"),
        ({"aspect": (2.0, 1.0)}, "aspect"),
        ({"blur_sigma": (2.0, 0.1)}, "blur_sigma"),
        ({"blur_kernel": 4}, "blur_kernel"),
        ({"flip": 1.5}, "flip"),
        ({"count": 0}, "count"),
        ({"hue": 0.6}, "hue"),
        ({"min_area": 0.0}, "min_area"),
        ({"interpolation": "nearest"}, "interpolation"),
    ],
)
def test_refuses_what_cannot_be_drawn(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        TypeAdapter(View).validate_python(settings)


@pytest.mark.parametrize("name", PLANS)
def test_plans_survive_being_written_down(name: str) -> None:
    tree = dataclasses.asdict(PLANS[name])
    assert TypeAdapter(ViewPlan).validate_python(tree) == PLANS[name]
