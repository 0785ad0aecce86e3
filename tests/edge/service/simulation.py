"""Many devices on a virtual clock: what is due first happens first, and nothing depends on this machine."""

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.edge.service.fleet import WALL, Fleet, changed


@dataclass
class Ran:
    """What happened."""

    visits: Counter[str] = field(default_factory=Counter)
    left: int = 0
    """Devices that went away with a clone in hand."""


def simulate(fleet: Fleet, users: dict[str, float], until: float, churn_per_minute: float = 0.0, seed: int = 0) -> Ran:
    """Let users visit again and again.

    Args:
        fleet: in one process.
        users: seconds that a visit of each takes.
        until: seconds to simulate.
        churn_per_minute: share of users that forget everything and join anew after a while, per minute.
        seed: of their going away.
    """
    chance, ran = random.Random(seed), Ran()
    events = [(0.0, number, name, "") for number, name in enumerate(users)]
    heapq.heapify(events)
    while events and events[0][0] <= until:
        moment, number, name, lease = heapq.heappop(events)
        fleet.clock.advance(WALL + moment - fleet.clock.now())
        device, seconds = fleet.device(name), users[name]
        if not lease:
            fleet.service.tick()
            heapq.heappush(events, (moment + seconds, number, name, device.lease().lease))
        elif chance.random() < churn_per_minute * seconds / 60:
            ran.left += 1
            heapq.heappush(events, (moment + 30.0, number, name, ""))
        else:
            device.send(lease, changed(device.model(lease), 1.0 + number + ran.visits[name]))
            fleet.teach()
            ran.visits[name] += 1
            heapq.heappush(events, (moment, number, name, ""))
    return ran
