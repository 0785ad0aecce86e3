"""Plans that are drawn together."""

from dataclasses import replace

import torch

from stillhouse.data.draws import sample
from stillhouse.data.sharing import join_plans
from stillhouse.data.views import View, ViewPlan

PLAIN, SMALL, GRAY = View(), View(size_fraction=0.5), View(grayscale=1.0)


def plan(*views: View) -> ViewPlan:
    return ViewPlan(views=views)


def test_equal_plans_are_drawn_once() -> None:
    twice = plan(replace(PLAIN, count=2))
    assert join_plans([twice, plan(PLAIN, PLAIN), plan(PLAIN)]) == (twice, ((0, 1), (0, 1), (0,)))


def test_single_views_are_shared_and_the_rest_is_added_behind() -> None:
    joined, places = join_plans(
        [plan(PLAIN, replace(SMALL, count=2)), plan(GRAY, SMALL), plan(replace(PLAIN, count=3))]
    )
    assert joined == plan(PLAIN, replace(SMALL, count=2), GRAY, replace(PLAIN, count=2))
    assert places == ((0, 1, 2), (3, 1), (0, 4, 5))


def test_every_plan_finds_the_settings_it_asked_for() -> None:
    plans = [plan(GRAY, PLAIN), plan(SMALL, PLAIN, GRAY, SMALL), plan(replace(GRAY, count=4))]
    joined, places = join_plans(plans)
    single = [replace(view, count=1) for view in joined.views for _ in range(view.count)]
    for own, wanted in zip(places, plans, strict=True):
        assert [single[place] for place in own] == [
            replace(view, count=1) for view in wanted.views for _ in range(view.count)
        ]
        assert len(set(own)) == len(own)


def test_the_first_plan_draws_what_it_draws_alone() -> None:
    first = plan(replace(PLAIN, count=2), SMALL)
    joined, _ = join_plans([first, plan(GRAY, SMALL, SMALL)])
    sizes, index = torch.full((5, 2), 40), torch.arange(5)
    alone, together = (sample(each, 32, sizes, index, seed=3, epoch=2) for each in (first, joined))
    assert len(together) == 5
    for own, shared in zip(alone, together[:3], strict=True):
        assert torch.equal(own.box, shared.box)
        assert torch.equal(own.factors, shared.factors)
