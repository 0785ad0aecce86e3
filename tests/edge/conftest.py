"""Fleets that are taken down after the test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.edge.fleet import Fleet

MakeFleet = Callable[..., Fleet]


@pytest.fixture
def make_fleet(tmp_path: Path) -> Iterator[MakeFleet]:
    """Makes fleets; arguments as of `Fleet`, the folder's name first."""
    made: list[Fleet] = []

    def make(wire: str = "in process", name: str = "state", **settings: Any) -> Fleet:
        made.append(Fleet(tmp_path / name, wire, **settings))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()
