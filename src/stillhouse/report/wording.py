"""Numbers and sentences as people write them."""

import math

SPACE = "\u202f"  # between a number and its unit


def percent(share: float) -> str:
    """A share in [0, 1] with one decimal: `41.2 %`."""
    return f"{100 * share:.1f}{SPACE}%" if math.isfinite(share) else "not finite"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    sign = "\u2212" if round(100 * difference, 1) < 0 else "+"
    return f"{sign}{abs(100 * difference):.1f}"


def duration(seconds: float) -> str:
    """Seconds in the two largest units that matter."""
    if round(seconds) < 60:
        return f"{seconds:.0f}{SPACE}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{SPACE}h {minutes:02}{SPACE}min"


def sentence(text: str) -> str:
    """Text that begins with a capital and ends with a stop."""
    return text[:1].upper() + text[1:] + "." * (not text.endswith("."))
