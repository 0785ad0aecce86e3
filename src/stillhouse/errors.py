"""What can go wrong for a user, and the exit code of each.

A message has three parts, in lower case: where, what was found, what to do.
"""


class StillhouseError(Exception):
    """A mistake or mishap that a person can act on; the command line prints it without a traceback."""

    exit_code = 1


class SettingsError(StillhouseError):
    """A recipe, a setting or an argument is wrong."""

    exit_code = 2


class DataError(StillhouseError):
    """The images cannot be found or read."""

    exit_code = 3


class RunError(StillhouseError):
    """A run directory, a checkpoint or the disk below it refuses."""

    exit_code = 4


class TrainingError(StillhouseError):
    """Training itself went wrong: a loss that is not finite, a lost process."""

    exit_code = 5


class Interrupted(StillhouseError):  # noqa: N818 (not an error, but leaves the same way)
    """A signal stopped the run after it was saved."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
