"""The lesson of a state folder: its settings, and the weights that its core begins from."""

from collections.abc import Callable, Sequence

from stillhouse.config import assign, build
from stillhouse.edge.core import Beginning
from stillhouse.edge.lesson import Arrival, Decision, Lesson, State, Taught
from stillhouse.edge.teaching import EdgeConfig, open_teaching  # type: ignore[import-not-found]  # comes with edge-learn
from stillhouse.recipes.recipe import read_recipe


class GoingOn(Lesson):
    """A lesson whose core begins from weights that were trained before.

    Args:
        lesson: everything but the beginning.
        first: the beginning.
    """

    def __init__(self, lesson: Lesson, first: Callable[[], Taught]) -> None:
        self._lesson, self._first = lesson, first

    def start(self) -> Taught:
        return self._first()

    def examine(self, core: State, arrival: Arrival) -> Decision:
        return self._lesson.examine(core, arrival)

    def teach(self, core: State, arrivals: Sequence[Arrival], version: int) -> Taught:
        return self._lesson.teach(core, arrivals, version)


def open_going_on(beginning: Beginning) -> Lesson:
    """The lesson that a state folder describes.

    Raises:
        SettingsError: a setting of `lesson` is wrong.
        DataError: the images cannot be read.
    """
    recipe = read_recipe(assign(beginning.recipe, "data.uri", beginning.data))
    lesson = open_teaching(recipe, build(EdgeConfig, beginning.settings, "lesson."))

    def first() -> Taught:
        return Taught(beginning.weights, lesson.judge.scores(lesson.room.frozen(beginning.weights)))

    return GoingOn(lesson, first)
