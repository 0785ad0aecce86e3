"""A task of Flower, for tests that hold its messages in their hands."""

import pytest


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is a task, as those that Flower starts; its messages ask for one."""
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
