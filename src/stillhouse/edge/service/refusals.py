"""What a device is told when it cannot have what it asks for; the numbers are those of HTTP."""

from stillhouse.errors import StillhouseError

Told = str | int | float | bool


class Refusal(StillhouseError):  # noqa: N818 (an answer, not an accident)
    """A request that is not served.

    Args:
        reason: in words.
        told: facts for the device beside the reason, by name.
    """

    status = 400

    def __init__(self, reason: str, **told: Told) -> None:
        super().__init__(reason)
        self.reason, self.told = reason, told


class Unauthorized(Refusal):
    """Not known, not signed by who it says, too old, seen before, or about somebody else's lease."""

    status = 401


class TooSlow(Refusal):
    """A body that drips; what came is kept, and `HEAD` says how much."""

    status = 408


class Conflict(Refusal):
    """The part does not go on where the last one ended; `offset` is where to go on."""

    status = 409


class Gone(Refusal):
    """The lease has ended, as `state` and `reason` say; `late` is whether a return is taken all the same."""

    status = 410


class LengthRequired(Refusal):
    """A body that does not say its length."""

    status = 411


class TooLarge(Refusal):
    """A body larger than any return can be."""

    status = 413


class Wait(Refusal):
    """Not now; `retry_after` is in seconds."""

    status = 429

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.retry_after = retry_after
