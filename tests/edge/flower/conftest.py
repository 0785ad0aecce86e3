"""A task of Flower, which its messages ask for."""

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is a task, as those that Flower starts."""
    if find_spec("flwr") is None:
        return
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
