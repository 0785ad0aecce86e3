"""Views that several methods look at together: what two of them want alike is drawn once."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from stillhouse.data.views import View, ViewPlan


def join_plans(plans: Sequence[ViewPlan]) -> tuple[ViewPlan, tuple[tuple[int, ...], ...]]:
    """One plan that holds the views of all, and where each plan finds its own.

    Two views with the same settings stay two draws inside a plan, and are one draw between plans. The views of the
    first plan come first and in their order, so they are what that plan draws alone.

    Returns:
        The joined plan, and for each of `plans` the places of its views among the `num_views` of the joined one.
    """
    drawn: list[View] = []
    places = []
    for plan in plans:
        own: list[int] = []
        for wanted in (replace(view, count=1) for view in plan.views for _ in range(view.count)):
            free = [place for place, view in enumerate(drawn) if view == wanted and place not in own]
            own.append(free[0] if free else len(drawn))
            if not free:
                drawn.append(wanted)
        places.append(tuple(own))
    views = tuple(replace(view, count=len(list(alike))) for view, alike in groupby(drawn))
    return ViewPlan(views=views), tuple(places)
