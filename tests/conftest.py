"""What every test may rely on: one thread, and nothing left behind."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

torch.set_num_threads(1)

NOT_OURS = {"PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}
"""Set by pytest, by torch when its first optimizer is made, and by scikit-learn when it is imported."""


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fail a test that leaks a thread, a process group or an environment variable."""
    threads, environment = set(threading.enumerate()), dict(os.environ)
    yield
    leaked = [thread.name for thread in set(threading.enumerate()) - threads if not thread.daemon]
    changed = {name for name in environment.keys() ^ os.environ.keys() if name not in NOT_OURS}
    assert not leaked, f"threads left running: {leaked}"
    assert not changed, f"environment changed: {changed}"
    assert not dist.is_initialized()


@pytest.fixture(autouse=True)
def waits_for_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power; what is synced, and in which order, is tested where files are written."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True, scope="session")
def signals_as_in_a_terminal() -> None:
    """A background job ignores Ctrl-C, and `nohup` a lost terminal; what is tested here does not."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
