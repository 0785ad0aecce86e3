"""Fleets that are taken down after the test; in one process, over HTTPS, and with PostgreSQL where there is one."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from stillhouse.edge.service.tables import metadata
from tests.edge.service.fleet import Fleet

MakeFleet = Callable[..., Fleet]
URL = os.environ.get("STILLHOUSE_TEST_DATABASE", "")
IN_PROCESS, HTTPS = "in process", "https"
POSTGRESQL = pytest.param(
    "postgresql", marks=pytest.mark.skipif(not URL, reason="no STILLHOUSE_TEST_DATABASE: `make postgresql`")
)


@pytest.fixture
def make_fleet(tmp_path: Path) -> Iterator[MakeFleet]:
    """Makes fleets; `place` is a wire, or PostgreSQL behind none; other arguments as of `Fleet`."""
    made: list[Fleet] = []

    def make(place: str = IN_PROCESS, name: str = "state", **settings: Any) -> Fleet:
        if place == "postgresql":
            engine = create_engine(URL)
            metadata.drop_all(engine)
            engine.dispose()
            settings["database"] = URL
        made.append(Fleet(tmp_path / name, HTTPS if place == HTTPS else IN_PROCESS, **settings))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()
