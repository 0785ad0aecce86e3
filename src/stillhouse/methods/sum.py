"""A sum: several methods train one encoder at the same time."""

import math
from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from stillhouse.data.sharing import join_plans
from stillhouse.data.stream import Batch
from stillhouse.errors import SettingsError
from stillhouse.methods.method import Method
from stillhouse.networks.classifier import Classifier
from stillhouse.networks.encoder import Encoder


class Sum(Method):
    """The weighted terms of several methods, each called by its method's name and its own: `seed/similarity`.

    The encoder to keep is the first method's; a classifier is kept where it stands on that. Views that several methods
    want alike are drawn once for all of them; each method passes its own through the encoder. All images are drawn,
    those without a label as well, though a member may learn from the others only.

    Args:
        members: methods by name, two or more, all built on one and the same encoder object.
        weights: factor of each member's terms, in their order, above 0; left out, all are 1.

    Raises:
        SettingsError: fewer than two members, another number of weights, a weight that is not above 0 and finite, or
            members that train no weight in common.
    """

    def __init__(self, members: Mapping[str, Method], weights: Sequence[float] = ()) -> None:
        super().__init__()
        if len(members) < 2:
            raise SettingsError(f"sum: {len(members)} methods; give two or more")
        self.weights = tuple(weights) or (1.0,) * len(members)
        if len(self.weights) != len(members) or not all(0 < weight < math.inf for weight in self.weights):
            raise SettingsError(f"sum: weights {self.weights} for {len(members)} methods; give each one above 0")
        learning = ({id(p) for p in member.parameters() if p.requires_grad} for member in members.values())
        if not set.intersection(*learning):
            raise SettingsError("sum: the methods train no weight in common; build all of them on the same encoder")
        self.members = nn.ModuleDict(members)
        self.views, self.places = join_plans([member.views for member in members.values()])

    @property
    def encoder(self) -> Encoder:
        """The first method's."""
        return self._methods()[0].encoder

    @property
    def peer(self) -> Encoder | None:
        """That of the first method that has one."""
        return next((member.peer for member in self._methods() if member.peer is not None), None)

    @property
    def classifier(self) -> Classifier | None:
        """That of the first method whose classifier stands on the kept encoder, and not on what it is an average of."""
        found = (member.classifier for member in self._methods())
        return next((one for one in found if one is not None and one.encoder is self.encoder), None)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        terms = {}
        for name, member, weight, places in zip(self.members, self._methods(), self.weights, self.places, strict=True):
            own = batch.of(places)
            for term, value in member(own, progress).items():
                terms[f"{name}/{term}"] = weight * value
        return terms

    def after_step(self, progress: float) -> None:
        for member in self._methods():
            member.after_step(progress)

    def _methods(self) -> list[Method]:
        return cast(list[Method], list(self.members.values()))
