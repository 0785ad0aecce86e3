"""A server in a process of its own: `python -m tests.edge.service.server STATE`, with a lesson that takes means."""

import sys
from pathlib import Path

from stillhouse.edge.service.core import Beginning
from stillhouse.edge.service.serving import serve
from tests.edge.service.fleet import Averaging


def make(beginning: Beginning) -> Averaging:
    """The lesson, from the weights of the state folder."""
    return Averaging(start=beginning.weights)


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]), make, lambda told: print(told, flush=True))
    except KeyboardInterrupt:
        sys.exit(130)
