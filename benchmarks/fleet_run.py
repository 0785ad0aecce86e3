"""What happens to the devices of a fleet: one is slow, one is killed, one comes late, one goes offline, one is hostile.

`run` leaves in the fleet's folder a log of every program, `seen/` with what `edge status` and the status page said and
when, and `run.json` with what was done to whom.
"""

import json
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fleet_program import Program, Throttle
from fleet_running import Note, Running
from fleet_setup import HOSTILE, Fleet

SLOW = 10.0
"""How many times slower the slow device is."""
LATE_VERSION = 4
"""Of the core when the late device joins."""
PAUSE = 15.0
"""Seconds between two attempts of the hostile device, and for which the offline one has its return on the disk."""
PAGE_SECONDS, STATUS_SECONDS = 10.0, 60.0
"""Between two looks."""


@dataclass(frozen=True)
class Record:
    """What was done, and when the service ran, in seconds since 1970."""

    began: float
    ended: float
    notes: Sequence[Note]


def usual_and_slow(running: Running) -> None:
    """Both join; once it has its first clone, one gets a tenth of the processor time of the other."""
    usual, program = running.join("usual"), running.join("slow")
    running.wait(lambda: program.said("fetched"), "the slow device fetches")
    running.throttles.append(Throttle(program, usual, SLOW))
    running.note("slow", f"is {SLOW:.0f} times slower from now on")
    running.wait(lambda: program.said("sent:"), "the slow device sends a return")


def killed(running: Running) -> None:
    """It is killed while it trains and started again at once; then killed again and started when it counts as lost."""
    program = running.join("killed")
    _kill(running, program)
    program = running.join("killed")
    running.wait(lambda: program.said("sent:"), "the killed device sends what it went on with")
    time.sleep(2.0)
    _kill(running, program)
    running.wait(lambda: running.is_lost("killed"), "the killed device is lost")
    program = running.join("killed")
    running.wait(lambda: program.said("sent:"), "the killed device sends another return")


def late(running: Running) -> None:
    """It joins when the core has gone on."""
    running.wait(lambda: running.status().version >= LATE_VERSION, f"version {LATE_VERSION}")
    program = running.join("late")
    running.wait(lambda: program.said("sent:"), "the late device sends a return")


def offline(running: Running) -> None:
    """Its line is cut as soon as it has a clone, and mended some time after it was given up and has finished."""
    program, visit = running.join("offline"), running.visit("offline")
    running.wait(lambda: program.said("fetched"), "the offline device fetches")
    running.relay.cut()
    running.note("offline", "its line is cut")
    running.wait(visit.returned.exists, "the offline device finishes")
    running.wait(lambda: running.is_lost("offline"), "the offline device is lost")
    running.note("offline", f"its return waits on its disk, {visit.returned.stat().st_size:,} bytes")
    time.sleep(PAUSE)
    running.relay.mend()
    running.note("offline", "its line is mended")
    running.wait(lambda: program.said("sent:"), "the offline device sends its return")


def hostile(running: Running) -> None:
    """It tries everything until it is shut out."""
    script, data = str(Path(__file__).with_name("fleet_hostile.py")), str(running.fleet.images("usual"))
    command = [script, f"{HOSTILE}.invite", data, f"devices/{HOSTILE}", "--pause", str(PAUSE)]
    program = Program(HOSTILE, command, running.fleet.folder)
    running.programs.append(program)
    running.note(HOSTILE, "begins")
    running.wait(lambda: not program.is_running, "the hostile device is shut out")


def _kill(running: Running, program: Program) -> None:
    visit = running.visit("killed")
    checkpoint = visit.run.checkpoints.last
    running.wait(lambda: checkpoint.exists() and not visit.returned.exists(), "the killed device trains")
    program.end(signal.SIGKILL)
    running.note("killed", "killed while it trains (SIGKILL)")


SCRIPTS: Sequence[Callable[[Running], None]] = (usual_and_slow, killed, late, offline, hostile)


def run(fleet: Fleet, returns: int, seconds: float) -> None:
    """Let the fleet work until so many returns have taught and everything has happened, for `seconds` at most."""
    began, running = time.time(), Running(fleet, seconds)
    with ThreadPoolExecutor(len(SCRIPTS)) as pool:
        try:
            _watch(running, [pool.submit(_noted, script, running) for script in SCRIPTS], returns, began + seconds)
        finally:
            ended = running.close()
    content = {"began": began, "ended": ended, "notes": running.notes}
    _record(fleet).write_text(json.dumps(content, indent=1) + "\n")


def read_record(fleet: Fleet) -> Record:
    """What `run` wrote."""
    return Record(**json.loads(_record(fleet).read_text()))


def was_run(fleet: Fleet) -> bool:
    """Whether the fleet has done its work."""
    return _record(fleet).exists()


def _record(fleet: Fleet) -> Path:
    return fleet.folder / "run.json"


def _noted(script: Callable[[Running], None], running: Running) -> None:
    """Run a script; what did not come to pass is written down, and the others go on."""
    try:
        script(running)
    except TimeoutError as error:
        if not running.over.is_set():
            running.note(script.__name__, f"given up ({error})")


def _watch(running: Running, scripts: Sequence[Future[None]], returns: int, until: float) -> None:
    page = status = 0.0
    while time.time() < until:
        for script in scripts:
            if script.done():
                script.result()
        if not running.server.is_running:
            raise RuntimeError("the server has ended; see server.log")
        if time.time() > page + PAGE_SECONDS:
            page = time.time()
            running.look_at_page()
        if time.time() > status + STATUS_SECONDS:
            status = time.time()
            running.look_at_status()
        applied = sum(device.applied for device in running.status().devices)
        if applied >= returns and all(script.done() for script in scripts):
            break
        time.sleep(1.0)
    running.look_at_page()
    running.look_at_status()
