"""The rooms of the house: imports point down, and importing does nothing."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stillhouse

ROOT = Path(stillhouse.__file__).parent
LEAVES = {"errors", "config", "schedules", "distributed", "files", "health"}
MAY_IMPORT = {
    "losses": set(),
    "networks": set(),
    "data": set(),
    "report": set(),
    "export": {"networks"},
    "methods": {"losses", "networks", "data"},
    "training": {"methods", "networks", "data"},
    "evaluation": {"networks", "data"},
    "recipes": {"export", "training", "evaluation", "methods", "networks", "data"},
    "edge": {"recipes", "training", "evaluation", "methods", "networks", "data", "losses"},
    "embeddings": {"recipes", "evaluation", "networks", "data"},
    "cli": {
        "edge",
        "embeddings",
        "export",
        "recipes",
        "report",
        "training",
        "evaluation",
        "methods",
        "networks",
        "data",
        "losses",
    },
}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports from the root"
            yield node.module or ""


def imported_rooms(path: Path) -> Iterator[str]:
    yield from (name.split(".")[1] for name in imported(path) if name.startswith("stillhouse."))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room in {"__init__", "__main__"}:
        return
    allowed = LEAVES if room in LEAVES else LEAVES | MAY_IMPORT[room] | {room}
    if room in LEAVES:
        allowed = LEAVES - {room}
    assert set(imported_rooms(path)) <= allowed


def test_every_room_is_known_and_none_is_a_lumber_room() -> None:
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(MAY_IMPORT)
    leaves = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert leaves == LEAVES


def test_training_and_evaluation_do_not_know_each_other() -> None:
    for room, other in (("training", "evaluation"), ("evaluation", "training")):
        for path in (ROOT / room).glob("*.py"):
            assert other not in set(imported_rooms(path)), path


def test_flower_stays_in_two_files() -> None:
    """Nothing else imports it, nor these two, so that a service and a device never need it."""
    flower = {ROOT / "edge/flower" / name for name in ("client.py", "server.py")}
    names = ("flwr", "stillhouse.edge.flower")
    near = {path for path in modules() if any(name.startswith(names) for name in imported(path))}
    assert near == flower


def test_help_needs_no_torch() -> None:
    """`stillhouse --help` answers at once because nothing heavy is imported for it."""
    heavy = {"torch", "timm", "numpy", "sklearn", "plotly", "pydantic"}
    program = f"import sys, stillhouse.cli.main; print(sorted(set(sys.modules) & {heavy}))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_public_names_are_there() -> None:
    for name in stillhouse.__all__:
        assert getattr(stillhouse, name)
    with pytest.raises(AttributeError):
        stillhouse.no_such_name  # noqa: B018
