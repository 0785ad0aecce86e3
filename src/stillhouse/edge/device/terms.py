"""The terms on which a clone is lent, as a device hears them: data of a stranger, bounded and checked."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval, Len

from stillhouse.config import check
from stillhouse.errors import RunError

MAX_MODEL = 4 * 2**30
"""Bytes of the largest clone that a device takes."""
MAX_SECONDS = 1e8
"""Three years; no deadline is later."""
DIGEST = r"[0-9a-f]{64}"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One clone, lent."""

    lease: str
    """Its name in every request about it."""
    version: Annotated[int, Ge(0)]
    """Of the core."""
    digest: str
    """SHA-256 of the clone."""
    size: Annotated[int, Interval(gt=0, le=MAX_MODEL)]
    """Its bytes."""
    deadline: Annotated[float, Interval(gt=0, le=MAX_SECONDS)]
    """Seconds that were left when it was lent."""
    beat: Annotated[float, Interval(gt=0, le=3600)]
    """Seconds between two signs of life."""
    late: Literal["accept", "refuse"]
    """Whether a return is taken after the deadline."""
    recipe: Annotated[dict[str, Any], Len(1)]
    """How the core wants to be trained."""
    largest_change: Annotated[float, Ge(0)] = 0.0
    """Norm of what a return changed over that of the clone from which on it is refused; 0 where that is not told."""
    questions: str = ""
    """SHA-256 of the questions that may be answered instead of sending weights; empty where there are none."""
    questions_size: Annotated[int, Interval(ge=0, le=MAX_MODEL)] = 0
    """Their bytes."""

    @property
    def path(self) -> str:
        """Where it is on the server."""
        return f"/v1/lease/{self.lease}"


def read_lease(table: Any) -> Lease:
    """A lease from what the server, or the file that kept it, says.

    Raises:
        RunError: it is not one.
    """
    known = {key: table[key] for key in Lease.__dataclass_fields__ if key in table} if isinstance(table, dict) else {}
    try:
        lease, problems = check(Lease, known, "lease.")
    except RecursionError:
        lease, problems = None, ["lease.recipe: nested without end"]
    if lease is None or not _well_formed(lease):
        told = "; ".join(problems) or "its name or a digest is malformed"
        raise RunError(f"the server lends something odd ({printable(told)}); both sides may be of different versions")
    return lease


def _well_formed(lease: Lease) -> bool:
    digests = [lease.digest, *([lease.questions] if lease.questions else [])]
    named = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", lease.lease) is not None
    return named and all(re.fullmatch(DIGEST, digest) for digest in digests)


def printable(text: object) -> str:
    """What a stranger says, short and without what moves a cursor."""
    return "".join(char if char.isprintable() else "?" for char in str(text))[:300]
