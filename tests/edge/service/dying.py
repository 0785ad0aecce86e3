"""A server that kills itself: `python -m tests.edge.service.dying STATE PORT STEP NTH [URL]`, for `test_killed`.

It dies by SIGKILL the `NTH` time that a step of the commit order has been taken; an empty step lets it live.
"""

import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path

from stillhouse.edge.service.authority import Authority
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.service import Service
from stillhouse.edge.service.serving import listen, running, teaching
from stillhouse.edge.service.web import edge_app
from tests.edge.service.fleet import TERMS, UNHURRIED, Averaging


def main(state: Path, port: int, fatal: str, nth: int, url: str) -> None:
    """Serve until killed."""
    passed = Counter[str]()

    def passing(step: str) -> None:
        passed[step] += 1
        if step == fatal and passed[step] == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    service = Service(state, Averaging(), TERMS, url=url, passing=passing)
    context = Authority(StateFolder(state).authority).server_context()
    with teaching(service), running(edge_app(service, {}, UNHURRIED), listen("127.0.0.1", port), context):
        print("core version", service.core.version, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), (sys.argv[5:] or [""])[0])
