"""A device: borrows a clone, lets it learn here, gives it back, and again; killed at any moment, it goes on.

Learning does not need the link. A finished return waits on the disk until there is one.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from stillhouse.edge.device.client import Client
from stillhouse.edge.device.heartbeat import Heartbeat
from stillhouse.edge.device.leaving import Leaving
from stillhouse.edge.device.limits import Limits, Tell
from stillhouse.edge.device.patience import LONGEST_WAIT, Patience
from stillhouse.edge.device.privacy import PrivacyConfig
from stillhouse.edge.device.setbacks import Ended, Unreachable, Wait
from stillhouse.edge.device.terms import Lease
from stillhouse.edge.device.training import learn
from stillhouse.edge.device.visit import Visit, alone, write_return
from stillhouse.errors import RunError, TrainingError
from stillhouse.training.journal import Listener

OUTCOME_BEATS = 3
"""For so many beats a device asks what became of its return, before it goes on."""
OPEN = ("out", "spooled")
"""States of a lease that is not over."""


@dataclass
class Device:
    """Everything that `join` needs.

    Args:
        client: how to reach the server.
        folder: where what is underway is kept.
        data: URI of the images, which never leave.
        limits: what may be taken of the machine.
        privacy: how much may be told; None tells all that was learnt.
        answers: whether to send what the trained clone says about the core's questions, and never weights.
        tell: told one line per event.
        show: opens what shows the progress of a training.
        clock: seconds since 1970.
        sleep: waits so many seconds.
    """

    client: Client
    folder: Path
    data: str
    limits: Limits = field(default_factory=Limits)
    privacy: PrivacyConfig | None = None
    answers: bool = False
    tell: Tell = print
    show: Callable[[], AbstractContextManager[Listener | None]] = nullcontext
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    visit: Visit = field(init=False)

    def __post_init__(self) -> None:
        self.visit = Visit(self.folder / "visit", self.answers)

    def join(self, visits: int = 0) -> None:
        """Learn and give back, `visits` times, or until stopped where that is 0; what was begun before goes first.

        Raises:
            Interrupted: a signal came while training; the same call goes on.
            SettingsError, DataError, RunError, TrainingError: what a person can mend; what is underway stays, unless
                the clone itself is at fault.
        """
        self._leaving.check()
        with alone(self.folder):
            done = 0
            while not visits or done < visits:
                lease, until = self._kept() or self._ask()
                with Heartbeat(self.client, lease, until, self.clock) as heart:
                    sent = self._attend(lease, heart)
                done += sent
                if not sent:
                    self.sleep(min(lease.beat, LONGEST_WAIT))

    def _kept(self) -> tuple[Lease, float] | None:
        """A visit that was underway when this process began, if it is still of use."""
        kept = self.visit.read()
        if kept is None:
            self.visit.clear()
            return None
        lease, _ = kept
        named = f"clone of version {lease.version}"
        try:
            state, reason = self.client.state(lease)
        except (Unreachable, Wait):
            self.tell(f"{named}: goes on without a link")
            return kept
        except Ended as end:
            state, reason = "lost", end.reason
        except RunError as error:  # the server forgot it, or takes nothing from this device: asking for another tells
            self.tell(f"{named}: {error}")
            return None
        if state == "out" or (state == "lost" and lease.late == "accept" and self.visit.returned.exists()):
            self.tell(f"{named}: goes on")
            return kept
        self._say_outcome(lease, state, reason)
        self.visit.clear()
        return None

    def _ask(self) -> tuple[Lease, float]:
        lease = self._patience.insist(self.client.lease)
        until = self.clock() + lease.deadline
        self.visit.begin(lease, until)
        self.tell(
            f"lease {lease.lease}: clone of version {lease.version}, {lease.size:,} bytes, "
            f"{timedelta(seconds=round(lease.deadline))} to learn"
        )
        return lease, until

    def _attend(self, lease: Lease, heart: Heartbeat) -> bool:
        """One visit from where it is to its end; whether something was sent."""
        try:
            if not self.visit.clone.exists():
                self._patience.insist(lambda: self.client.fetch(lease, self.visit.clone), heart.cancelled)
                self.tell(f"clone of version {lease.version}: fetched")
            if self.answers and not self.visit.returned.exists():
                self._fetch_questions(lease, heart)
            if not self.visit.returned.exists():
                self._learn(lease, heart)
            self._send(lease)
        except Ended as end:
            self.tell(f"clone of version {lease.version}: lost because {end.reason}")
            self.visit.clear()
            return False
        except TrainingError:
            self.visit.clear()
            raise
        return True

    def _fetch_questions(self, lease: Lease, heart: Heartbeat) -> None:
        if not lease.questions:
            self.visit.clear()
            raise RunError(
                "--answers: the core asks no questions, and no weights are sent; ask its owner to set "
                "lesson.answers.images, or leave --answers out"
            )
        fetch = partial(self.client.fetch_questions, lease, self.visit.questions)
        if self._patience.insist(fetch, heart.cancelled):
            self.tell(f"questions: fetched, {lease.questions_size:,} bytes")

    @property
    def _leaving(self) -> Leaving:
        return Leaving(self.privacy, self.answers, self.folder / "privacy.json", self.limits, self.tell)

    @property
    def _patience(self) -> Patience:
        return Patience(self.tell, self.sleep)

    def _learn(self, lease: Lease, heart: Heartbeat) -> None:
        with self.show() as listener:
            trained = learn(
                self.visit, lease, self.data, self.limits, check=self._leaving.check_for(self.visit, lease),
                cancelled=heart.cancelled, listeners=[listener] if listener else [], tell=self.tell,
            )  # fmt: skip
        if (reason := heart.cancelled()) and not heart.takes_return:
            raise Ended(reason)
        size = write_return(self.visit, self._leaving.of(trained, self.visit))
        self.tell(f"trained{f' until {reason}' if reason else ''}: {size:,} bytes wait to be sent")

    def _send(self, lease: Lease) -> None:
        """Give back, and see for a while what becomes of it."""
        state, reason = self._patience.insist(lambda: self._deliver(lease))
        until = self.clock() + OUTCOME_BEATS * lease.beat
        while state in OPEN and self.clock() < until:
            self.sleep(min(lease.beat, 2.0))
            try:
                state, reason = self.client.state(lease)
            except (Unreachable, Wait):
                continue
            except Ended as end:
                state, reason = "lost", end.reason
        self._say_outcome(lease, state, reason)
        self.visit.clear()

    def _deliver(self, lease: Lease) -> tuple[str, str]:
        """See that the return is at the server; gives the state of the lease."""
        state, reason = self.client.state(lease)
        if state in ("out", "lost"):  # others have it: only the answer was lost
            self.client.send(lease, self.visit.returned)
            state, reason = "spooled", ""
        self.tell(f"sent: what version {lease.version} learnt here")
        return state, reason

    def _say_outcome(self, lease: Lease, state: str, reason: str) -> None:
        because = f" because {reason}" if reason else ""
        words = {
            "applied": "taught the core",
            "refused": f"refused{because}",
            "lost": f"lost{because}",
            "spooled": "waits at the server to teach the core",
        }
        self.tell(f"clone of version {lease.version}: {words.get(state, state)}")
