"""A lease: one clone at one device, from the moment it is sent to its end.

out -> spooled -> applied | refused
out -> lost (deadline | silent | joined again | revoked | quarantined)
lost -> spooled, where late returns are taken and the lease is not final yet
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from stillhouse.errors import SettingsError

LeaseState = Literal["out", "spooled", "applied", "refused", "lost"]
MOVES: dict[LeaseState, tuple[LeaseState, ...]] = {
    "out": ("spooled", "lost"),
    "lost": ("spooled",),
    "spooled": ("applied", "refused"),
    "applied": (),
    "refused": (),
}
"""Where a lease may go from each state, as long as it is not final."""

HEADER_ROOM = 65536
"""Bytes that a return's header may need beyond the share of `body_factor`, for models of a few bytes."""


@dataclass(frozen=True, kw_only=True)
class LeaseConfig:
    """Terms for devices, and for how their returns teach."""

    beat_seconds: Annotated[float, Gt(0)] = 10.0
    """How often a device says that it still works."""
    missed_beats: Annotated[int, Ge(1)] = 3
    """After so many missed beats a device counts as silent."""
    deadline_factor: Annotated[float, Gt(0)] = 3.0
    """A device may take so many times as long as it took on average."""
    deadline_floor: Annotated[float, Gt(0)] = 120.0
    """Seconds that every device may take."""
    deadline_ceiling: Annotated[float, Gt(0)] = 86400.0
    """Seconds that no device may exceed; a device that was never seen has as long."""
    late: Literal["accept", "refuse"] = "accept"
    """Whether a return may still come after a lease was lost by silence or deadline."""
    late_seconds: Annotated[float, Ge(0)] = 7 * 86400.0
    """For how long after the deadline."""
    max_clones: Annotated[int, Ge(1)] = 64
    """Clones that may be out or wait to teach at any time; bounds the staleness and the disk."""
    waiting_per_node: Annotated[int, Ge(1)] = 2
    """Returns of one device that may wait to teach; with more it waits for its next clone."""
    body_factor: Annotated[float, Ge(1)] = 1.25
    """A return may be so many times as large as the clone was, and a header's room more."""
    strikes: Annotated[int, Ge(1)] = 3
    """After so many hostile returns a device is shut out."""
    allowed_fall: Annotated[float, Ge(0)] = 0.02
    """How far the first score may ever lie below the best so far; a lesson that falls further is thrown away. It bounds
    what many lessons lose together; what one may lose is the lesson's own to say (`lesson.trial.margin`)."""
    at_least: Annotated[int, Ge(1)] = 1
    """Returns that must wait before a lesson begins."""
    together: Annotated[int, Ge(1)] = 1
    """Returns that teach in one lesson, at most."""

    def check(self) -> None:
        """Raise `SettingsError` where settings contradict each other."""
        if self.deadline_floor > self.deadline_ceiling:
            raise SettingsError(
                f"leases.deadline_floor: {self.deadline_floor:g} s lies above deadline_ceiling, "
                f"{self.deadline_ceiling:g} s; lower it"
            )
        if not self.at_least <= min(self.together, self.waiting_per_node, self.max_clones):
            raise SettingsError(
                f"leases.at_least: {self.at_least} returns would never come together; raise together, "
                "waiting_per_node and max_clones to as many, or lower it"
            )

    @property
    def silent_seconds(self) -> float:
        """Seconds without a beat after which a device counts as silent."""
        return self.beat_seconds * self.missed_beats

    @property
    def late_room(self) -> float:
        """Seconds after the deadline in which a return may still come."""
        return self.late_seconds if self.late == "accept" else 0.0

    def max_body(self, size: int) -> int:
        """Bytes that the return of a clone of `size` bytes may have."""
        return int(self.body_factor * size) + HEADER_ROOM

    def window(self, visits: int, mean_seconds: float) -> float:
        """Seconds that a device with this history gets."""
        if not visits:
            return self.deadline_ceiling
        return min(max(self.deadline_factor * mean_seconds, self.deadline_floor), self.deadline_ceiling)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What is known of one clone. Times are seconds of the server's clock."""

    id: str
    node: str
    version: int
    """Of the core that was sent."""
    base_digest: str
    """SHA-256 of the file that was sent."""
    base_size: int
    """Its bytes."""
    state: LeaseState
    reason: str = ""
    """Why it was lost or refused."""
    final: bool = False
    """Whether nothing can change any more."""
    granted: float
    window: float
    """Seconds that the device was given."""
    deadline: float
    until: float
    """When the last late return would be taken."""
    last_beat: float
    ended: float = 0.0
    """When it was lost, applied or refused; 0 before."""
    arrival: int = 0
    """Place in the order in which returns came; 0 before."""
    digest: str = ""
    """SHA-256 of the return, once there is one."""
    size: int = 0
    """Its bytes."""
    bytes_down: int = 0
    bytes_up: int = 0
    """Bytes of weights that crossed the wire, each way, with those of attempts that failed."""

    def may_become(self, state: LeaseState) -> bool:
        """Whether this is a legal move."""
        return not self.final and state in MOVES[self.state]

    def overdue(self, now: float, silent_seconds: float) -> str:
        """Why a lease that is out must be lost now; empty where it need not."""
        if self.state != "out":
            return ""
        if now > self.deadline:
            return "deadline"
        return "silent" if now - self.last_beat > silent_seconds else ""

    def takes_return(self, now: float) -> bool:
        """Whether a body would be taken at this moment."""
        return not self.final and (self.state == "out" or (self.state == "lost" and now <= self.until))
