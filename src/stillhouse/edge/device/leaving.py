"""What of a trained clone leaves the device: its weights, its weights blurred, or its answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from stillhouse.edge.device.account import PrivacyAccount, blurred
from stillhouse.edge.device.answering import answers_of
from stillhouse.edge.device.limits import Limits, Tell
from stillhouse.edge.device.privacy import PrivacyConfig, check_noise, epsilon, loudness, telling_names
from stillhouse.edge.device.terms import Lease
from stillhouse.edge.device.visit import Visit
from stillhouse.edge.lesson import State
from stillhouse.errors import SettingsError
from stillhouse.methods.method import Method
from stillhouse.methods.travel import pack


@dataclass(frozen=True)
class Leaving:
    """How much of a visit is told.

    Args:
        privacy: how weights are blurred; None sends them as they are.
        answers: whether answers leave, and no weights.
        account: file that keeps how much was told.
        limits: what may be taken of the machine.
        tell: told one line per event.
    """

    privacy: PrivacyConfig | None
    answers: bool
    account: Path
    limits: Limits
    tell: Tell

    def check(self) -> None:
        """Raise `SettingsError` where settings contradict each other, or noise is none."""
        if self.privacy and self.answers:
            raise SettingsError("--answers: sends no weights that --clip and --noise could blur; leave one of them out")
        if self.privacy:
            epsilon(loudness(self.privacy), self.privacy.delta)

    def check_for(self, visit: Visit, lease: Lease) -> Callable[[Method], None]:
        """Shown the outline of a method, raises `SettingsError` where what will leave of it would be refused."""

        def look(outline: Method) -> None:
            if self.privacy:
                check_noise(outline, load_file(visit.clone), self.privacy, lease.largest_change)

        return look

    def of(self, trained: Method, visit: Visit) -> State:
        """What leaves; that it will is written down before."""
        if self.answers:
            return answers_of(trained, visit.questions, self.limits)
        if not self.privacy:
            return pack(trained)
        now, total = PrivacyAccount(self.account).spend(self.privacy)
        self.tell(f"privacy: epsilon {now:.3g} for this visit, {total:.3g} in total (delta {self.privacy.delta:g})")
        return blurred(visit.clone, pack(trained), telling_names(trained), self.privacy)
