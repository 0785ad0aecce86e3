"""The service beside many devices in other processes: twenty seconds of what `benchmarks/edge_load.py` measures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def measured(out: Path, *arguments: str) -> list[list[dict[str, Any]]]:
    """The rows of every table."""
    command = [sys.executable, "benchmarks/edge_load.py", "--minutes", "0.35", "--out", str(out), *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    return [table["rows"] for table in json.loads(out.read_text())["tables"]]


@pytest.mark.slow
def test_many_devices_are_served_without_an_error(tmp_path: Path) -> None:
    times, (about,) = measured(tmp_path / "load.json", "--devices", "20")
    assert about["errors"] == 0
    assert times[0]["what"] == "heartbeat"
    assert times[0]["times"] >= 20


@pytest.mark.slow
def test_visits_leave_neither_files_nor_descriptors(tmp_path: Path) -> None:
    samples, _, (visits,) = measured(tmp_path / "soak.json", "--soak")
    assert visits["errors"] == 0
    assert visits["times"] > 20
    assert samples[-1]["files"] < samples[0]["files"] + 16
    assert samples[-1]["descriptors"] < samples[0]["descriptors"] + 20
