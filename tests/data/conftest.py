"""Every test of the data room has a cache folder of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_folder(leaves_nothing_behind: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where decoded images go; not made yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("STILLHOUSE_CACHE", str(folder))
    return folder
