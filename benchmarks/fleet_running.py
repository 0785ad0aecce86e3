"""A fleet at work: its server, its devices, and what `edge status` and the status page say of them meanwhile."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable

from fleet_program import Program, Relay, Throttle, free_port, wait_until
from fleet_setup import Fleet, open_service
from stillhouse.edge.device.visit import Visit
from stillhouse.edge.service.database import Database
from stillhouse.edge.service.status import Status, read_status

WIDE = {**os.environ, "COLUMNS": "240", "OMP_NUM_THREADS": "1"}
Note = tuple[float, str, str]
"""When, to whom, and what was done."""


class Running:
    """A fleet at work.

    Args:
        fleet: with a first core and images.
        seconds: that anything may take, at most.
    """

    def __init__(self, fleet: Fleet, seconds: float) -> None:
        self.fleet, self.notes, self.over = fleet, list[Note](), threading.Event()
        self._limit = time.monotonic() + seconds
        port, self._page = free_port(), free_port()
        self.relay = Relay(port)
        for path in [*fleet.folder.glob("*.log"), fleet.folder / "run.json"]:
            path.unlink(missing_ok=True)
        self._seen = fleet.folder / "seen"
        shutil.rmtree(self._seen, ignore_errors=True)
        self._seen.mkdir()
        open_service(fleet, port, self._page, {"offline": f"https://localhost:{self.relay.port}"})
        self.server = Program("server", ["-m", "stillhouse", "edge", "serve", "state"], fleet.folder)
        self.programs, self.throttles = [self.server], list[Throttle]()
        self.wait(lambda: self.server.said("for devices at") or not self.server.is_running, "the service starts")
        if not self.server.is_running:
            raise RuntimeError(f"the service does not start: {self.server.lines[-1:]}")
        self._database = Database(fleet.state.database_url)

    def join(self, name: str) -> Program:
        """Let a user's device join."""
        images, state = str(self.fleet.images(name)), f"devices/{name}"
        command = ["-m", "stillhouse", "edge", "join", f"{name}.invite", "--data", images, "--state", state]
        program = Program(name, command, self.fleet.folder)
        self.programs.append(program)
        self.note(name, "joins")
        return program

    def visit(self, name: str) -> Visit:
        """What a user's device has underway."""
        return Visit(self.fleet.folder / "devices" / name / "visit")

    def note(self, name: str, done: str) -> None:
        """Write down what was done to somebody."""
        self.notes.append((time.time(), name, done))
        print(f"{time.strftime('%H:%M:%S')} {name}: {done}", flush=True)

    def wait(self, ready: Callable[[], object], what: str) -> None:
        """Wait until `ready()` holds; `TimeoutError` where the fleet is over before."""

        def checked() -> bool:
            if self.over.is_set():
                raise TimeoutError(f"{what}: not before the end")
            return bool(ready())

        wait_until(checked, self._limit - time.monotonic(), what)

    def status(self) -> Status:
        """What the service knows."""
        return read_status(self._database, time.time())

    def is_lost(self, name: str) -> bool:
        """Whether the newest lease of a user is lost."""
        return any(device.name == name and device.doing == "lost" for device in self.status().devices)

    def look_at_page(self) -> None:
        """Keep what the status page shows."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._page}/", timeout=60) as answer:
            self._keep("page.html", answer.read().decode())

    def look_at_status(self) -> None:
        """Keep what `stillhouse edge status` says."""
        command = [sys.executable, "-m", "stillhouse", "edge", "status", "state"]
        told = subprocess.run(command, cwd=self.fleet.folder, capture_output=True, text=True, check=True, env=WIDE)
        self._keep("status.txt", told.stdout)

    def _keep(self, kind: str, text: str) -> None:
        (self._seen / f"{time.time():.0f}-{kind}").write_text(text)

    def close(self) -> float:
        """Stop everything, as a system that shuts down would; gives the moment at which the service had stopped."""
        self.over.set()
        for throttle in self.throttles:
            throttle.close()
        self.server.end(signal.SIGTERM, patience=180)
        ended = time.time()
        for program in self.programs:
            program.end(signal.SIGTERM)
        self.relay.close()
        self._database.close()
        return ended
