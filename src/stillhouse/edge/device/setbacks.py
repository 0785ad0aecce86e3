"""What comes between a device and its server, as its answers say: data of a stranger, bounded and checked."""

import json
import re

import httpx

from stillhouse.config import Table
from stillhouse.edge.device.terms import printable
from stillhouse.errors import RunError

MAX_ANSWER = 4 * 2**20
"""Bytes of any answer that is not a file."""


class Unreachable(Exception):  # noqa: N818 (not an error: a link comes and goes)
    """The server did not answer, or broke off; to be tried again."""


class Wait(Exception):  # noqa: N818
    """The server wants to be asked later.

    Args:
        seconds: until then.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"asked to wait {seconds:g} s")
        self.seconds = seconds


class Ended(Exception):  # noqa: N818
    """The lease is over.

    Args:
        reason: in words.
        late: whether a return is taken all the same; None where the server did not say.
    """

    def __init__(self, reason: str, late: bool | None = None) -> None:
        super().__init__(reason)
        self.reason, self.late = reason, late


def setback(response: httpx.Response, node: str) -> Exception:
    """What an answer that is no success means: to try again, to wait, that a lease is over, or `RunError`.

    Args:
        response: its body is read.
        node: who asked.
    """
    try:
        table = read_table(response)
    except RunError:
        table = {}
    status, server = response.status_code, str(response.url.copy_with(path="/")).rstrip("/")
    reason = printable(table.get("reason") or table.get("error") or response.reason_phrase or status)
    if status == 410 or (status == 404 and "/lease/" in str(response.url)):
        late = table.get("late")
        return Ended(reason, late if isinstance(late, bool) else None)
    if status == 429 or (status == 503 and "retry-after" in response.headers):
        seconds = response.headers.get("retry-after", "")
        return Wait(min(3600.0, max(1.0, float(seconds))) if re.fullmatch(r"\d{1,9}(\.\d+)?", seconds) else 30.0)
    if status >= 500 or status in (408, 409, 425):
        return Unreachable(reason)
    if status == 401:
        return RunError(
            f"{server}: does not take requests of {node} ({reason}); see that this machine's clock is right, or ask "
            "for a new invite"
        )
    return RunError(f"{server}: refused ({status}, {reason}); tell the owner of the server")


def read_table(response: httpx.Response) -> Table:
    """The JSON object that an answer holds; nothing for an empty answer."""
    content = bytearray()
    for block in response.iter_raw():
        content += block
        if len(content) > MAX_ANSWER:
            raise RunError("the server answers with more than an answer needs; tell its owner")
    try:
        table = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise RunError("the server answers with something that is no JSON; is it a stillhouse server?") from error
    if not isinstance(table, dict):
        raise RunError("the server answers with something that is no answer; is it a stillhouse server?")
    return table
