"""What networks say about the images held out: each is built and asked once in a lesson.

Letters: N images held out, M questions, C classes, D width.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from stillhouse.edge.learning.classroom import Classroom
from stillhouse.edge.learning.descent import own_loss
from stillhouse.edge.lesson import State
from stillhouse.edge.questions import answer
from stillhouse.methods.method import Method


@dataclass
class Heard:
    """One network, asked only, and what it said."""

    room: Classroom
    state: State
    """Its weights, which nobody may change meanwhile."""

    @cached_property
    def method(self) -> Method:
        """In evaluation mode; nothing of it learns."""
        return self.room.frozen(self.state)

    @cached_property
    def scores(self) -> Tensor:
        """Class scores `[N, C]`."""
        return self.room.scores(self.method)

    @cached_property
    def vectors(self) -> tuple[Tensor, Tensor]:
        """Vectors `[N, D]` of two views of each image, the same views every time."""
        return self.room.vectors(self.method)

    @cached_property
    def answers(self) -> Tensor:
        """What it says about the questions, which are not held out: `[M, C]`."""
        return answer(self.method, self.room.questions)

    @cached_property
    def own_loss(self) -> float:
        """Mean of the method's own loss, on the same views every time."""
        with torch.no_grad():
            own, total = own_loss(self.method), 0.0
            for batch in self.room.views(self.method.views):
                total += own(batch, 1.0).item() * len(batch.index)
        return total / len(self.room.held_out)


@dataclass
class Hearing:
    """Remembers, until told to forget, what was heard of each network; weights are known by being the same object."""

    room: Classroom
    _heard: dict[int, Heard] = field(default_factory=dict, init=False, repr=False)

    def of(self, state: State) -> Heard:
        """The network with these weights."""
        return self._heard.setdefault(id(state), Heard(self.room, state))  # holds the weights, so that the id stays

    def forget(self, *states: State) -> None:
        """Let go of some of them."""
        for state in states:
            self._heard.pop(id(state), None)

    def clear(self) -> None:
        """Let go of all."""
        self._heard.clear()
