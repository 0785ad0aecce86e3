"""Running the service: HTTPS for devices, a page for people, and a thread in which the core is taught."""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from stillhouse.edge.service.authority import Authority
from stillhouse.edge.service.core import LessonFactory, open_lesson, read_core
from stillhouse.edge.service.folder import StateFolder
from stillhouse.edge.service.page import page_app
from stillhouse.edge.service.patience import PatientProtocol
from stillhouse.edge.service.service import Service
from stillhouse.edge.service.web import edge_app
from stillhouse.errors import RunError

if TYPE_CHECKING:
    from starlette.applications import Starlette

MOST_CONNECTIONS = 512
KEEP_ALIVE_SECONDS = 30
"""How long a line may be idle, or take to ask or to read; see `PatientProtocol`."""
LAST_SECONDS = 5
"""How long requests under way may take when the service stops."""
RETRY_SECONDS = 30.0

log = logging.getLogger("stillhouse.edge")


def serve(path: Path, make: LessonFactory, tell: Callable[[str], None]) -> None:
    """Serve a state folder until a signal comes.

    Args:
        path: state folder, made by `stillhouse edge init`.
        make: makes the lesson that teaches the core.
        tell: hears, in sentences, what a person at the terminal wants to know.

    Raises:
        SettingsError, DataError, RunError: the folder, its settings or its images do not work, or a port is taken.
        KeyboardInterrupt: a signal came; all is kept.
    """
    known = read_core(path)
    authority = Authority(StateFolder(path).authority)
    authority.renew(known.service.names)
    line = listen(known.service.host, known.service.port)
    page = listen("127.0.0.1", known.service.page_port)
    service = Service(
        path, open_lesson(path, make), known.leases, url=known.service.database, files=known.service.files
    )
    try:
        app = edge_app(service, known.told, known.web)
        with teaching(service), running(page_app(service), page) as page_url:
            tell(f"core version {service.core.version}, for devices at {known.service.url}; status: {page_url}")
            try:
                _server(app, authority.server_context()).run(sockets=[line])
            except KeyboardInterrupt:
                tell("stopping; a lesson under way is finished first (Ctrl-C again leaves at once, and loses nothing)")
                raise
    finally:
        service.close()


@contextmanager
def teaching(service: Service) -> Iterator[None]:
    """Teach the core in a thread, as returns come; a lesson under way is finished at the end."""
    stop = threading.Event()
    thread = threading.Thread(target=_teach, args=(service, stop), name="teaching", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        service.returned.set()
        thread.join()


@contextmanager
def running(
    app: "Starlette",
    line: socket.socket,
    context: ssl.SSLContext | None = None,
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
) -> Iterator[str]:
    """Serve an application from a thread.

    Args:
        app: what answers.
        line: where it listens.
        context: certificate to show; plain HTTP without.
        keep_alive_seconds: how long a line may be idle, or take to ask or to read.

    Yields:
        The URL.
    """
    host, port = line.getsockname()[:2]
    server = _server(app, context, keep_alive_seconds)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [line]}, name="serving", daemon=True)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, so that callers wait rather than fail; port 0 takes any.

    Raises:
        RunError: the port is taken, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    line = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sends at once only if it is told TCP
    try:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.bind((host, port))
        line.listen(128)
    except OSError as error:
        line.close()
        raise RunError(f"{host}:{port}: cannot be listened at ({error}); choose another port") from error
    return line


def _server(
    app: "Starlette", context: ssl.SSLContext | None, keep_alive_seconds: float = KEEP_ALIVE_SECONDS
) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]
            timeout_graceful_shutdown=LAST_SECONDS,
            ssl_context_factory=(lambda config, default: context) if context else None,
        )
    )


def _teach(service: Service, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            outcome = service.apply_next()
        except RunError as error:
            log.error("%s; teaching goes on in %g s", error, RETRY_SECONDS)
            stop.wait(RETRY_SECONDS)
            continue
        if outcome is None:
            service.returned.wait(1.0)
