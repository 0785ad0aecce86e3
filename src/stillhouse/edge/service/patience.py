"""What a line may do to the server: uvicorn's h11 protocol with an end to slow heads, slow readers and garbage.

uvicorn limits how long a line may be idle between two requests, but a byte is enough to begin anew, and the first
request has no limit at all. Bodies are `bodies.Body`'s to limit, and TLS handshakes asyncio's, with a minute.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

UNREAD = 1 << 16
"""Bytes of answers that may wait for a reader before it has to hurry."""


class PatientProtocol(H11Protocol):
    """Cuts off who takes longer than uvicorn's `timeout_keep_alive` to ask, or to read.

    A line on which nothing is being answered has so long to bring the whole head of a request, from its opening or
    from the first byte after an answer on. A reader has so long to take what `UNREAD` lets wait.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A line is open."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(UNREAD)
        self._asking, self._reading = _Timer(self), _Timer(self)
        self._asking.start()

    def data_received(self, data: bytes) -> None:
        """Bytes came: of a head, of a body that is read, or of one that nobody reads any more."""
        if self.transport.is_closing():  # what was said is the last word; h11 would refuse to answer once more
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._asking.stop()
        else:
            self._asking.start()

    def pause_writing(self) -> None:
        """More waits for the reader than may."""
        super().pause_writing()
        self._reading.start()

    def resume_writing(self) -> None:
        """The reader took it."""
        super().resume_writing()
        self._reading.stop()

    def send_400_response(self, msg: str) -> None:
        """Tell that what came is not HTTP; where a request before it is not answered yet, nothing can be told any more.

        uvicorn answers in the middle of the other answer, which h11 refuses, and logs it as a fault of the application.
        """
        if self.cycle is None or self.cycle.response_complete:
            super().send_400_response(msg)
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The line is gone."""
        self._asking.stop()
        self._reading.stop()
        super().connection_lost(exc)


class _Timer:
    """Ends a line when it is not stopped in time; one that runs already is not started anew."""

    def __init__(self, line: H11Protocol) -> None:
        self._line = line
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._handle is None:
            self._handle = self._line.loop.call_later(self._line.timeout_keep_alive, self._line.transport.abort)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
