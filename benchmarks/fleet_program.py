"""Programs that run beside a benchmark: started as a user would, heard line by line, slowed, killed, cut off."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

BLOCK = 1 << 16
Line = tuple[float, str]
"""When it was said, in seconds since 1970, and what."""


class Program:
    """A program whose every line is kept with its time, in memory and in a file.

    Args:
        name: in its file's name; what is there already is written on.
        command: what to run, without `python`.
        folder: where it runs and where its log lies.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name, self.lines = name, list[Line]()
        settings = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "240", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout, folder / f"{name}.log"))
        self._reader.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def processor_seconds(self) -> float:
        """That it has used so far; 0 once it has ended."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.is_running:
            self._process.send_signal(number)

    def end(self, number: signal.Signals, patience: float = 60.0) -> int:
        """Send a signal and wait for the end, for `patience` seconds before it is killed; gives the exit code."""
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join()
        return code

    def said(self, words: str) -> bool:
        """Whether a line holds these words."""
        return any(words in text for _, text in list(self.lines))

    def _read(self, stream: TextIO, path: Path) -> None:
        with stream, open(path, "a") as file:
            for text in stream:
                now = time.time()
                self.lines.append((now, text.rstrip("\n")))
                file.write(f"{now:.3f} {text}")
                file.flush()


def read_log(path: Path) -> list[Line]:
    """What a program of this name has said, in all of its lives."""
    if not path.exists():
        return []
    pairs = (line.split(" ", 1) for line in path.read_text().splitlines() if line)
    return [(float(when), text) for when, text in pairs]


class Throttle:
    """Makes a program so many times slower than another one: stopped whenever it has used its part of a processor.

    That part is a share of what the other one gets when it works, so it holds on a busy machine, too.

    Args:
        program: to slow down.
        like: to compare with.
        times: slower.
    """

    def __init__(self, program: Program, like: Program, times: float) -> None:
        self._program, self._like, self._times, self._over = program, like, times, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """Let it run."""
        self._over.set()
        self._thread.join()
        self._program.send(signal.SIGCONT)

    def _run(self) -> None:
        rates = deque[float](maxlen=15)
        allowed = self._program.processor_seconds()
        while not self._over.is_set() and self._program.is_running:
            began, before = time.monotonic(), self._like.processor_seconds()
            while (seconds := time.monotonic() - began) < 1.0 and not self._over.wait(0.02):
                spent = self._program.processor_seconds()
                self._program.send(signal.SIGCONT if spent < allowed else signal.SIGSTOP)
            rates.append((self._like.processor_seconds() - before) / seconds)
            allowed += max(rates) / self._times  # the fastest of the last seconds: the other one works at times only


class Relay:
    """A line between a device and its server that can be cut: TCP on this machine, bytes passed on as they come."""

    def __init__(self, target: int) -> None:
        self._target, self._cut, self._pairs = target, False, list[socket.socket]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break what is connected; whoever connects from now on is hung up on."""
        self._cut = True
        pairs, self._pairs = self._pairs, []
        for one in pairs:
            _shut(one)

    def mend(self) -> None:
        """Let connections through again."""
        self._cut = False

    def close(self) -> None:
        """End for good."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                try:
                    if self._cut:
                        raise ConnectionRefusedError
                    far = socket.create_connection(("127.0.0.1", self._target), timeout=30)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                self._pairs = [one for one in self._pairs if one.fileno() >= 0] + [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(BLOCK):
            sink.sendall(block)
    for one in (source, sink):
        _shut(one)
        one.close()


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def wait_until(ready: Callable[[], object], seconds: float, what: str, every: float = 0.5) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it does not within `seconds`.
    """
    limit = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


def free_port() -> int:
    """A TCP port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as line:
        return int(line.getsockname()[1])
