"""Folders as a simulation leaves them, drawn from a seed: plausible, and nothing was learnt for them."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
CLASSES, CLONE = 10, 900_000
RULES = {
    "default": ("distil", 0.11, 0.012), "buffered": ("distil", 0.07, 0.02), "cloned": ("distil", -0.05, 0.05),
    "outputs only": ("distil", 0.06, 0.02), "merged only": ("distil", 0.09, 0.015),
    "fedasync": ("fedasync", -0.12, 0.08),
    "fedbuff, ten wait": ("fedbuff", 0.05, 0.03), "feddf": ("feddf", 0.03, 0.03), "fedavg": ("fedavg", 0.04, 0.03),
    "extra epochs": ("rehearse", 0.01, 0.008),
}  # fmt: skip
"""Of every contestant its rule, what it gains in the end, and how unsteady it is."""


def start(users: Sequence[Entry], **changes: Any) -> Entry:
    """The first line, about a core that is right half of the time."""
    line = {"kind": "start", "time": 0, "contestant": "ours", "seed": 0, "scenario": "two users", "model_bytes": 100}
    return line | {"test": 0.5, "recalls": [0.4, 0.6], "users": list(users)} | changes


def user(name: str, attack: str = "") -> Entry:
    """Somebody who holds class 0."""
    return {"name": name, "images": 100, "classes": [0], "speed": 1.0, "attack": attack}


def visit(time: float, name: str, state: str = "applied", **changes: Any) -> Entry:
    """A decided visit of 100 bytes each way."""
    line = {"kind": "visit", "time": time, "user": name, "sent": max(0.0, time - 10), "base_version": 0, "staleness": 0}
    return line | {"state": state, "reason": "", "down": 100, "up": 0 if state == "lost" else 100} | changes


def lesson(time: float, version: int, test: float, **changes: Any) -> Entry:
    """A lesson after which the core is right that often."""
    line = {"kind": "lesson", "time": time, "version": version, "users": ["a"], "test": test, "recalls": [test, test]}
    return line | {"absent_fall": None, "measures": {}, "backdoor": None} | changes


def end(time: float, test: float) -> Entry:
    """The last line."""
    return {"kind": "end", "time": time, "version": 1, "test": test, "digest": "ab" * 32, "wall_seconds": 1.5}


def text(entries: Sequence[Entry]) -> str:
    """Content of a record file."""
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def write_runs(folder: Path, runs: Mapping[str, Sequence[Entry]]) -> Path:
    """Write files by names such as `ours/0`."""
    for name, entries in runs.items():
        path = folder / "runs" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(entries))
    return folder


def make_fleet(
    folder: Path, contestants: int = 10, seeds: int = 3, users: int = 12, visits: int = 60, attackers: int = 3
) -> Path:
    """A whole folder: users of all speeds come and go, some attack, clones are refused and lost."""
    chosen = list(RULES)[:contestants]
    runs = {f"{name}/{seed}": _run(name, seed, users, visits, attackers) for name in chosen for seed in range(seeds)}
    lines = [
        f"seeds = {seeds}",
        "[about]",
        'summary = "Slow users, and some who mean no good."',
        "[users]",
        f"number = {users}",
        'split = "classes"',
        "[time]",
        "spread = 0.5",
    ]
    lines += [line for name in chosen for line in (f'[contestants."{name}".lesson]', f'rule = "{RULES[name][0]}"')]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scenario.toml").write_text("\n".join(lines) + "\n")
    return write_runs(folder, runs)


def _run(name: str, seed: int, users: int, visits: int, attackers: int) -> list[Entry]:
    draw, fleet = random.Random(f"{name}/{seed}"), random.Random(seed)
    _, gained, unsteady = RULES[name]
    kinds = ["sign_flip", "backdoor", "label_flip"]
    people: list[Entry] = [
        {"name": f"user-{number:02}", "images": 300, "classes": sorted(fleet.sample(range(CLASSES), 3)),
         "speed": round(fleet.lognormvariate(0, 0.5), 3), "attack": kinds[number % 3] if number < attackers else ""}
        for number in range(users)
    ]  # fmt: skip
    core = 0.6 + 0.02 * fleet.random()
    recalls = [core + fleet.uniform(-0.25, 0.25) for _ in range(CLASSES)]
    first = start(people, contestant=name, seed=seed, scenario="busy",
                  model_bytes=CLONE, test=core, recalls=recalls)  # fmt: skip
    joins: dict[str, float] = {
        person["name"]: 0.0 if number < users // 2 else fleet.uniform(0, 900) for number, person in enumerate(people)
    }
    leaves = {name: joined + fleet.expovariate(1 / 900) + 300 for name, joined in joins.items()}
    decided = sorted(_decided(draw, people, joins, leaves, visits), key=lambda line: float(line["time"]))
    done = float(decided[-1]["time"])
    moves = [(time, 1, name) for name, time in joins.items()] + [(time, -1, name) for name, time in leaves.items()]
    entries, live, version, test = [first], 0, 0, core
    queue: list[tuple[float, int, Entry]] = [(time, place, {"kind": "move", "user": name, "by": by})
             for place, (time, by, name) in enumerate(moves) if time <= done]  # fmt: skip
    queue += [(line["time"], 1000 + place, line) for place, line in enumerate(decided)]
    for time, _, line in sorted(queue, key=lambda item: item[:2]):
        if line["kind"] == "move":
            live += line["by"]
            entries.append(
                {"kind": "joined" if line["by"] > 0 else "left", "time": time, "user": line["user"], "live": live}
            )
            continue
        line |= {"staleness": min(version, draw.randrange(6))}
        entries.append(line | {"base_version": version - line["staleness"]})
        if line["state"] == "applied":
            version += 1
            share = min(1.0, version / (0.6 * visits))
            test = min(0.98, max(0.1, core + gained * share**0.6 + draw.gauss(0, unsteady)))
            entries.append(_lesson(draw, time, version, test, line["user"], recalls, core))
    return [*entries, end(done, test) | {"version": version}]


def _decided(
    draw: random.Random, people: Sequence[Entry], joins: Mapping[str, float], leaves: Mapping[str, float], visits: int
) -> list[Entry]:
    found = []
    for person in people:
        name = person["name"]
        now = joins[name]
        while now < leaves[name]:
            later = now + 120 * person["speed"] + draw.expovariate(1 / 30)
            fate, reason = "applied", ""
            if later > leaves[name] or draw.random() < 0.06:
                fate, reason = "lost", "silent"
            elif draw.random() < (0.75 if person["attack"] else 0.06):
                fate, reason = (
                    "refused",
                    f"held-out images: {draw.uniform(5, 40):.1f}% fewer are right than with the core",
                )
            found.append(
                visit(later, name, fate, sent=now, reason=reason, down=CLONE, up=0 if fate == "lost" else CLONE)
            )
            now = later
    return sorted(found, key=lambda line: float(line["time"]))[:visits]


def _lesson(
    draw: random.Random, time: float, version: int, test: float, name: str, recalls: Sequence[float], core: float
) -> Entry:
    now = [min(1.0, max(0.0, recall + test - core + draw.gauss(0, 0.05))) for recall in recalls]
    attend = draw.uniform(0.2, 0.5)
    measures = {
        "attend": attend,
        "retain": 0.9 - attend,
        "useful_attend": attend + 0.1,
        "useful_retain": None,
        "kept": 0.75,
    }
    return lesson(time, version, test, users=[name], recalls=now, absent_fall=max(0.0, draw.gauss(0.005, 0.01)),
                  measures=measures, backdoor=draw.uniform(0.05, 0.15))  # fmt: skip
