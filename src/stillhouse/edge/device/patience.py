"""Doing what needs the link as often as it takes."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from stillhouse.edge.device.limits import Tell
from stillhouse.edge.device.setbacks import Ended, Unreachable, Wait

T = TypeVar("T")

FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
"""Seconds before the server is tried again."""


@dataclass(frozen=True)
class Patience:
    """Twice as long a wait after each failure.

    Args:
        tell: told one line per event.
        sleep: waits so many seconds.
    """

    tell: Tell = print
    sleep: Callable[[float], None] = time.sleep

    def insist(self, act: Callable[[], T], cancelled: Callable[[], str] = str) -> T:
        """Do something until it is done.

        Args:
            act: raises `Unreachable` or `Wait` where the link or the server does not let it.
            cancelled: why nobody wants it any more; empty while somebody does.

        Raises:
            Ended: nobody wants it any more.
        """
        wait = FIRST_WAIT
        while True:
            if reason := cancelled():
                raise Ended(reason)
            try:
                return act()
            except Wait as later:
                self.tell(f"the server wants to be asked again in {later.seconds:g} s")
                self.sleep(later.seconds)
            except Unreachable as error:
                if wait == FIRST_WAIT:
                    self.tell(f"no link ({error}); goes on trying")
                self.sleep(wait * random.uniform(0.5, 1.0))  # so that many devices do not come back at once
                wait = min(2 * wait, LONGEST_WAIT)
