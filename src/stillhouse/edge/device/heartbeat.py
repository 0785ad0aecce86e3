"""Signs of life while a visit goes on, and the news that nobody waits for it any more."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from stillhouse.edge.device.client import Client
from stillhouse.edge.device.setbacks import Ended, Unreachable, Wait
from stillhouse.edge.device.terms import Lease
from stillhouse.errors import RunError


class Heartbeat:
    """Tells the server, from a thread of its own, that a lease is worked on, as long as it is entered.

    A link that is gone stops nothing: training goes on, until the deadline where late returns are refused.

    Args:
        client: how to reach the server.
        lease: what is worked on.
        until: when its deadline is, in seconds of `clock`.
        clock: seconds since 1970.
    """

    def __init__(self, client: Client, lease: Lease, until: float, clock: Callable[[], float] = time.time) -> None:
        self._client, self._lease, self._clock = client, lease, clock
        self.until = until
        self.end: Ended | None = None
        """Why it is over, once it is."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5.0)  # a beat that hangs is left to its time limit

    def cancelled(self) -> str:
        """Why work is to end; empty while it is wanted."""
        if self.end is not None:
            return self.end.reason or "the server wants it no more"
        over = self._lease.late == "refuse" and self._clock() > self.until
        return "the deadline is over" if over else ""

    @property
    def takes_return(self) -> bool:
        """Whether it is worth sending what was learnt."""
        if self.end is not None and self.end.late is not None:
            return self.end.late
        return self._lease.late == "accept" or not self.cancelled()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.until = self._clock() + self._client.beat(self._lease)
            except (Unreachable, Wait):
                pass  # the next one may get through
            except Ended as end:
                self.end = end
            except RunError as error:
                self.end = Ended(str(error), late=False)
            if self.end is not None:
                return
            self._stop.wait(self._lease.beat)
