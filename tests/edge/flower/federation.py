"""A federation of real processes on this machine: a SuperLink, its executor, SuperNodes, and `flwr run`."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import stillhouse

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/edge-flower.md"
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "NO_PROXY": "127.0.0.1",
}


def app_file() -> str:
    """The Flower app that the documentation gives."""
    (found,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


@dataclass
class Federation:
    """Processes that end with the test.

    Args:
        folder: for Flower's own files, logs and the app.
        environment: of every process.
    """

    folder: Path
    environment: Mapping[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        """Of the SuperLink."""
        return f"127.0.0.1:{self.port}"

    def start(self, name: str, *command: str) -> None:
        """Start a process in a session of its own, with a log."""
        with open(self.log(name), "wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(Path(sys.executable).parent / command[0]), *command[1:]],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                cwd=self.folder,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """What a process said."""
        return self.folder / f"{name}.log"

    def kill(self, name: str) -> None:
        """End a process and all it started, at once."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def node(self, name: str, **config: str) -> None:
        """Start a SuperNode."""
        told = " ".join(f'{key}="{value}"' for key, value in config.items())
        runtime = ("--host", "127.0.0.1", "--port", str(free_port()))
        link = ("--insecure", "--superlink", self.address)
        self.start(name, "flower-supernode", *link, *runtime, "--node-config", told)

    def run(self, **config: str | int) -> str:
        """Let the federation run the app; the run's number."""
        app = self.folder / "app"
        app.mkdir()
        (app / "pyproject.toml").write_text(app_file())
        told = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
        answer = json.loads(self.flwr("run", str(app), "here", "--run-config", told, "--format", "json"))
        return str(answer["run-id"])

    def stop(self, run: str) -> None:
        """End a run."""
        self.flwr("stop", run, "here")
        until = time.monotonic() + 60
        while not self.status(run).startswith("finished"):
            assert time.monotonic() < until, self.told()
            time.sleep(0.5)

    def status(self, run: str) -> str:
        """Of a run."""
        (known,) = json.loads(self.flwr("list", "here", "--run-id", run, "--format", "json"))["runs"]
        return str(known["status"])

    def flwr(self, *words: str) -> str:
        """What a command of Flower prints."""
        command = [str(Path(sys.executable).parent / "flwr"), *words]
        done = subprocess.run(
            command, env=dict(self.environment), cwd=self.folder, timeout=120, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.told()}"
        return done.stdout

    def told(self) -> str:
        """All logs, for when something goes wrong."""
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in self.folder.glob("*.log"))


@contextmanager
def federation(folder: Path) -> Iterator[Federation]:
    """A SuperLink with an executor beside it, as the documentation starts them, without TLS on the loopback alone."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    source = str(Path(stillhouse.__file__).parents[1])
    home = {"FLWR_HOME": str(folder / "home"), "STILLHOUSE_CACHE": str(folder / "cache")}
    running = Federation(folder, {**os.environ, **OFFLINE, **home, "PATH": path, "PYTHONPATH": source})
    (folder / "home").mkdir()
    (folder / "home/config.toml").write_text(f'[superlink.here]\naddress = "{running.address}"\ninsecure = true\n')
    try:
        running.start(
            "superlink", "flower-superlink", "--insecure", "--isolation", "process",
            "--database", str(folder / "link.db"),
            "--disable-runtime-dependency-installation", "--host", "127.0.0.1", "--port", str(running.port),
        )  # fmt: skip
        wait_for_port(running.port)
        running.start("superexec", "flower-superexec", "--insecure", "--runtime-api-address", running.address)
        yield running
    finally:
        for name in reversed(list(running.processes)):
            running.kill(name)


def wait_for_port(port: int, seconds: float = 60.0) -> None:
    """Until somebody listens there."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as line:
            if line.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens at port {port}")
