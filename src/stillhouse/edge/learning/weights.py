"""How much a clone is listened to that left a while ago: factors by staleness, the versions the core went on since.

Source: decays of Xie, Koyejo, Gupta 2019 (FedAsync); the growth of the retaining weight is ours.
"""

from collections.abc import Callable
from typing import Literal

Decay = Literal["polynomial", "hinge", "constant"]


def polynomial(staleness: float, exponent: float = 0.5) -> float:
    """`(1 + s)^-a`: 1 for a fresh clone, a half at staleness 3 with the default."""
    return float((1.0 + staleness) ** -exponent)


def hinge(staleness: float, slope: float = 10.0, until: float = 4.0) -> float:
    """1 up to staleness `until`, then `1 / (slope (s - until) + 1)`."""
    return 1.0 if staleness <= until else 1.0 / (slope * (staleness - until) + 1.0)


def constant(staleness: float) -> float:
    """1 whatever the staleness."""
    return 1.0


def growth(staleness: float, exponent: float = 0.5, limit: float = 2.0) -> float:
    """`(1 + s)^a`, at most `limit`: what is stale is met with more of one's own."""
    return float(min(limit, (1.0 + staleness) ** exponent))


DECAYS: dict[Decay, Callable[[float], float]] = {"polynomial": polynomial, "hinge": hinge, "constant": constant}
"""Factors of what a clone has to say, by the name that settings give them."""
