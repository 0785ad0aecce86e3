"""How good a fleet's core is on images that nobody learnt from, beside the first core and beside further epochs of it.

Further epochs: as many lessons from the server's own images as the fleet's returns gave, each as long, with the same
learning rate; kept as far as images held out agree, as every lesson is, or kept unseen.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fleet_setup import Fleet, learnt_by_core
from stillhouse.data.augment import center_view
from stillhouse.data.labels import find_labels
from stillhouse.edge.learning.classroom import BATCH, Classroom, open_classroom
from stillhouse.edge.learning.opening import read_lesson
from stillhouse.edge.learning.teaching import EdgeConfig, Teaching, TrialConfig
from stillhouse.edge.lesson import Arrival, State
from stillhouse.edge.service.core import read_core
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.folder import read_weights
from stillhouse.edge.service.status import Status, read_status
from stillhouse.recipes.preparing import prepare
from stillhouse.recipes.recipe import Recipe, read_recipe

FIRST, TAUGHT, FURTHER, UNSEEN = "first core", "taught by the fleet", "further epochs", "further epochs, all kept"


@dataclass(frozen=True)
class Score:
    """On all test images."""

    accuracy: float
    error: float
    """Standard error of the difference to the first core, over images."""
    recalls: tuple[float, ...]
    """Accuracy of every class."""


def status_at(fleet: Fleet, now: float) -> Status:
    """What the service knew when it had stopped."""
    database = Database(fleet.state.database_url)
    try:
        return read_status(database, now)
    finally:
        database.close()


def scores(fleet: Fleet, test: str, status: Status) -> Mapping[str, Score]:
    """Scores by name; those that were found before are not looked for again."""
    path = fleet.folder / "right.json"
    right: dict[str, list[bool]] = json.loads(path.read_text()) if path.exists() else {}
    room, exam = _room(fleet), _Exam(fleet, test)
    lessons = sum(bool(version.by) for version in status.versions)
    for name in (FIRST, TAUGHT, FURTHER, UNSEEN):
        if name not in right:
            began = time.time()
            state = _core(fleet, room, status, name, lessons)
            right[name] = exam.right(room, state)
            path.write_text(json.dumps(right))
            print(f"{name}: {sum(right[name]) / len(right[name]):.2%} ({time.time() - began:.0f} s)", flush=True)
    labels, first = exam.labels, torch.tensor(right[FIRST]).double()
    return {name: _score(torch.tensor(found).double(), first, labels) for name, found in right.items()}


class _Exam:
    """Test images under the numbers of the core's classes."""

    def __init__(self, fleet: Fleet, test: str) -> None:
        recipe = _recipe(fleet)
        self.store = prepare(replace(recipe, data=replace(recipe.data, uri=test))).store
        self.labels = find_labels(self.store, recipe.data.classes).of

    @torch.no_grad()
    def right(self, room: Classroom, state: State) -> list[bool]:
        """Whether each image is told right."""
        method = room.frozen(state)
        assert method.classifier is not None
        batches = self.store.batches(torch.split(torch.arange(len(self.store)), BATCH))
        said = torch.cat([method.classifier(center_view(pixels, room.image_size)).argmax(1) for pixels in batches])
        answers: list[bool] = (said == self.labels).tolist()
        return answers


def _recipe(fleet: Fleet) -> Recipe:
    start = {"source": str(fleet.state.start_file.resolve())}
    return read_recipe({**read_core(fleet.state.path).recipe, "start": start})


def _room(fleet: Fleet) -> Classroom:
    room = open_classroom(_recipe(fleet), EdgeConfig().held_out)
    assert room.learnt.tolist() == learnt_by_core(fleet), "the first core knows images that were to decide"
    return room


def _core(fleet: Fleet, room: Classroom, status: Status, name: str, lessons: int) -> State:
    first = read_weights(fleet.state.start_file)
    if name == FIRST:
        return first
    if name == TAUGHT:
        return fleet.state.read_version(status.version, status.digest)
    given = read_lesson(read_core(fleet.state.path).lesson)
    trial = given.trial if name == FURTHER else TrialConfig(shares=())
    teaching, core = Teaching(room, replace(given, rule="rehearse", trial=trial)), first
    for version in range(1, lessons + 1):
        core = teaching.teach(core, [Arrival("server", version - 1, 0, core, core)], version).state
    return core


def _score(right: Tensor, first: Tensor, labels: Tensor) -> Score:
    recalls = [right[labels == known].mean().item() for known in labels.unique()]
    error = (right - first).std().item() / math.sqrt(len(right))
    return Score(right.mean().item(), error, tuple(recalls))
