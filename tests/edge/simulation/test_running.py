"""A folder of records: nothing is played twice, and nothing is mixed."""

import json
from pathlib import Path

import pytest

from stillhouse.config import parse_toml
from stillhouse.edge.simulation.records import is_whole
from stillhouse.edge.simulation.running import simulate
from stillhouse.edge.simulation.scenario import Scenario, read_scenario
from stillhouse.errors import RunError, SettingsError
from tests.edge.simulation.test_world import digits


@pytest.fixture
def scenario(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    """Two contestants, three users, one visit each."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return digits(visits={"each": 1}, training={"epochs": 1.0, "batch_size": 32, "optimizer": "sgd"})


def test_what_is_whole_is_kept_and_what_broke_off_begins_anew(scenario: Scenario, tmp_path: Path) -> None:
    out, lines = tmp_path / "a", list[str]()
    simulate(scenario, out, ["fedasync"], lines.append)
    assert [line.partition(":")[0] for line in lines] == ["fedasync, seed 0"]
    assert read_scenario(parse_toml((out / "scenario.toml").read_text(), "")) == scenario
    path = out / "runs" / "fedasync" / "0.jsonl"
    first = path.read_text()
    path.write_text("".join(first.splitlines(keepends=True)[:-1]))
    assert not is_whole(path)
    lines.clear()
    simulate(scenario, out, tell=lines.append)
    assert [line.partition(":")[0] for line in lines] == ["fedasync, seed 0", "default, seed 0"]
    told = [json.loads(text) for text in path.read_text().splitlines()]
    assert told[:-1] == [json.loads(text) for text in first.splitlines()[:-1]]
    assert told[-1]["digest"] == json.loads(first.splitlines()[-1])["digest"]
    before = path.stat().st_mtime_ns
    simulate(scenario, out, tell=lines.append)
    assert path.stat().st_mtime_ns == before
    assert lines[-1] == "default, seed 0: played before"


def test_other_settings_are_refused_with_their_names(scenario: Scenario, tmp_path: Path) -> None:
    out = tmp_path / "a"
    simulate(scenario, out, ["fedasync"], lambda line: None)
    table = scenario.to_table()
    with pytest.raises(RunError, match=r"users\.alpha: 0\.3 became 0\.5"):
        simulate(read_scenario({**table, "users": {**table["users"], "alpha": 0.5}}), out)
    rule = table["contestants"]["fedasync"]
    changed = {**table["contestants"], "fedasync": {**rule, "waiting": 2}}
    with pytest.raises(RunError, match=r"contestants\.fedasync\.waiting: 1 became 2"):
        simulate(read_scenario({**table, "contestants": changed}), out)
    more = read_scenario({**table, "seeds": 2, "contestants": {"late": {**rule, "proximal": 0.1}}})
    simulate(more, out, [], lambda line: None)
    assert sorted(path.name for path in (out / "runs").iterdir()) == ["fedasync", "late"]
    kept = parse_toml((out / "scenario.toml").read_text(), "")
    assert kept["seeds"] == 2
    assert set(kept["contestants"]) == {"default", "fedasync", "late"}


def test_nobodys_files_are_taken_for_a_simulation(scenario: Scenario, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="not of a simulation"):
        simulate(scenario, tmp_path)
    with pytest.raises(SettingsError, match="no such contestant; there are fedasync, default"):
        simulate(scenario, tmp_path / "b", ["fedsync"])
