"""The service over HTTPS, for Starlette: which request goes to which desk, and how a refusal looks.

A body goes to the disk block by block. What does not say its length, is too long or drips is cut off.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stillhouse.config import Table
from stillhouse.edge.service.bodies import closing
from stillhouse.edge.service.desk import Desk
from stillhouse.edge.service.rates import WebConfig
from stillhouse.edge.service.refusals import Refusal
from stillhouse.edge.service.service import Service
from stillhouse.errors import RunError

log = logging.getLogger("stillhouse.edge")
RETRY_SECONDS = 60


def edge_app(service: Service, recipe: Table, config: WebConfig = WebConfig()) -> Starlette:  # noqa: B008 (frozen)
    """The application; while it runs, leases end when their time is over.

    Args:
        service: answers.
        recipe: of the core, as nested plain values.
        config: settings.
    """
    desk = Desk(service, recipe, config)

    @asynccontextmanager
    async def ticking(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(_tick(service))
        yield
        task.cancel()

    return Starlette(
        routes=[
            Route("/v1/lease", desk.lease, methods=["POST"]),
            Route("/v1/lease/{lease}/model", desk.model, methods=["GET"]),
            Route("/v1/lease/{lease}/questions", desk.questions, methods=["GET"]),
            Route("/v1/lease/{lease}/beat", desk.beat, methods=["POST"]),
            Route("/v1/lease/{lease}/result", desk.offset, methods=["HEAD"]),
            Route("/v1/lease/{lease}/result", desk.result, methods=["PUT"]),
            Route("/v1/lease/{lease}", desk.state, methods=["GET"]),
        ],
        exception_handlers={Refusal: _refuse, RunError: _fail, ClientDisconnect: _hang_up},
        lifespan=ticking,
    )


async def _tick(service: Service) -> None:
    """Let go of what is over, again and again; a database that refuses is asked again."""
    while True:
        await asyncio.sleep(service.config.beat_seconds / 2)
        try:
            await run_sync(service.tick)
        except RunError as error:
            log.error("%s", error)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    headers = closing(request)
    if "retry_after" in error.told:
        headers["retry-after"] = str(math.ceil(float(error.told["retry_after"])))
    if "offset" in error.told:
        headers["upload-offset"] = str(error.told["offset"])
    return JSONResponse({"error": error.reason, **error.told}, error.status, headers)


async def _fail(request: Request, error: Exception) -> Response:
    """The disk or the database refuses: not the device's fault, and it may try again."""
    log.error("%s", error)
    headers = {**closing(request), "retry-after": str(RETRY_SECONDS)}
    return JSONResponse({"error": "the server cannot write at present"}, 503, headers)


async def _hang_up(request: Request, error: Exception) -> Response:
    return Response(status_code=400, headers={"connection": "close"})  # nobody is there to read it
