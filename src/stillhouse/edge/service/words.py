"""Numbers as people read them."""

from collections.abc import Mapping


def numbers(values: Mapping[str, float | None]) -> str:
    """Names and numbers in a line; a dash for what is no number."""
    return ", ".join(f"{name} {value:.4g}" if value is not None else f"{name} -" for name, value in values.items())


def counted(number: int, noun: str) -> str:
    """So many of something, in the singular where it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(count: float) -> str:
    """Bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def span(seconds: float) -> str:
    """A length of time."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(seconds: float) -> str:
    """How long something is past; a clock that runs behind is not told."""
    return f"{span(max(0.0, seconds))} ago"
