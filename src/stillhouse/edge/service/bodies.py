"""What comes with a request, piece by piece: never held whole, cut off where it stops or drips."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import ClientDisconnect, Request

from stillhouse.edge.service.rates import WebConfig
from stillhouse.edge.service.refusals import TooSlow

BLOCK = 1 << 18
MOST_UNHEARD = 8 << 20
"""Bytes that are read in vain so that the sender hears why: it listens only when it has sent everything."""


class Body:
    """The body of one request.

    Args:
        request: with a length in its headers.
        config: how slow it may be.
    """

    def __init__(self, request: Request, config: WebConfig) -> None:
        self._request, self._config = request, config
        self._left = int(request.headers.get("content-length", "0"))

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come."""
        return self._left == 0

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The body in blocks; when the line breaks, also what came before it.

        Raises:
            TooSlow: it stopped or dripped.
            ClientDisconnect: the sender is gone.
        """
        began, total, block = time.monotonic(), 0, bytearray()
        while self._left:
            try:
                piece = await self._piece()
                total += len(piece)
                block += piece
                self._check_speed(total, time.monotonic() - began)
            except (TooSlow, ClientDisconnect):
                yield bytes(block)
                raise
            if len(block) >= BLOCK or self.is_over:
                yield bytes(block)
                block.clear()

    async def drain(self) -> None:
        """Read what is left in vain, if it is not too much."""
        if self._left <= MOST_UNHEARD:
            with contextlib.suppress(TooSlow, ClientDisconnect):
                async with aclosing(self.blocks()) as blocks:
                    async for _ in blocks:
                        pass

    async def _piece(self) -> bytes:
        try:
            async with asyncio.timeout(self._config.silence_seconds):
                message = await self._request.receive()
        except TimeoutError as error:
            raise TooSlow("the body stopped") from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        self._left = max(0, self._left - len(piece)) if message.get("more_body", False) else 0
        return piece

    def _check_speed(self, total: int, seconds: float) -> None:
        if self._left and seconds > self._config.grace_seconds and total < self._config.slowest * seconds:
            raise TooSlow("the body drips")


def closing(request: Request) -> dict[str, str]:
    """Headers that end the line where a body was left unread: what follows on it is no request."""
    return {"connection": "close"} if getattr(request.state, "unread", False) else {}
